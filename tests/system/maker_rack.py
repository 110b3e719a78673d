"""A rack of a maker's system, from its makers' servers to a disk: everything but the maker's own programs is real.

The mirror pulls signed files over https, the appliance is nginx and `python -m web`, the live system's document is
applied by the real Ignition engine, and the agent in it installs to a loop device. What stands in is the maker's
installer, and the kernel that would start all of it.
"""

import copy
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap import steps
from bootstrap.artifacts import find_manifest
from bootstrap.config import load
from bootstrap.model import Cluster
from bootstrap.workplace import Workplace
from tests.maker_images import MIB, RAW, RELEASES, maker, raw_disk, release
from tests.system import mirror_site as makers
from tests.system import web_bench
from tests.system.mirror_rack import Rack
from tests.system.mirror_site import Gpg, Image, Server, Site
from tests.system.web_bench import ADDRESS, Appliance, free_port
from tests.unit.node.maker_rig import STAND_IN

ENGINE = "/usr/lib/dracut/modules.d/30ignition/ignition"
POOLS = {"flatcar": "gpu8", "fedora-coreos": "core"}
MAC = "52:54:00:aa:00:01"
SERIAL = "S-TARGET"
SIZE = 96 * MIB

# The real lsblk, of one loop device that says it is a disk with a serial number.
LSBLK = """\
#!/bin/sh
case $* in
*--json*) exec /usr/bin/lsblk "$@" "$DISK" | /usr/bin/jq '.blockdevices[] |= (.type = "disk" | .serial = "S-TARGET")' ;;
*MOUNTPOINT*) /usr/bin/lsblk "$@" | sed 's/ loop\\b/ disk/' ;;
*) exec /usr/bin/lsblk "$@" ;;
esac
"""
# A flush of the whole computer is no part of this.
SYNC = '#!/bin/sh\n[ $# = 0 ] || exec /bin/sync "$@"\n'
# What Debian has not and the engine asks for: there is no policy here that it could label by.
SETFILES = "#!/bin/sh\nexec cat >/dev/null\n"


class Releases(Site):
    """The makers' servers, with images that have their makers' shapes."""

    def content(self, name: str, version: str) -> bytes:
        family = "flatcar" if name.startswith("flatcar") else "fedora-coreos"
        files = release(family, version)
        return next(content for file, content in files.items() if file.endswith(name))


@contextmanager
def pulled(folder: Path, family: str, rack: Rack, gpg: Gpg, pem: Path) -> Iterator[Server]:
    """Serve the makers' releases, and give `rack` a configuration that is made from them."""
    with makers.serving(pem) as server:
        site = Releases(gpg, server.url, Image.made())
        site.fill()
        server.site = site
        (folder / "rack.yaml").write_text(configuration(site, family))
        (folder / "flatcar.asc").write_bytes(gpg.public("maker@example.net", "--armor"))
        (folder / "fedora.gpg").write_bytes(gpg.public("maker@example.net"))
        (folder / "ca.pem").write_bytes(pem.read_bytes())
        code, _, err = rack("mirror", "pull")
        assert code == 0, err
        yield server


def configuration(site: Site, family: str) -> str:
    """A rack of one machine, whose pool runs `family`; its appliance is on loopback."""
    tree = copy.deepcopy(json.loads(makers.configuration(site)))
    tree["pools"] = [pool for pool in tree["pools"] if pool["name"] == POOLS[family]]
    tree["pools"][0] |= {"disk": {"select": {"serial": SERIAL}}, "kernelArgs": ["nomodeset"]}
    tree["kubernetes"] |= {"cni": {"plugin": "bridge"}, "controlPlaneEndpoint": "127.77.0.9:6443"}
    tree["controlPlane"]["hosts"][0]["address"] = "127.77.0.9"
    tree["appliance"] = {
        "interface": "lo",
        "address": f"{ADDRESS}/24",
        "dhcp": {"mode": "off"},
        "httpPort": free_port(),
        "httpsPort": free_port(),
    }
    tree["machines"] = [{"name": "w1", "mac": MAC, "pool": POOLS[family], "address": "127.77.0.51"}]
    return json.dumps(tree)


class Said:
    """Keeps what the steps say."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Any]:
        self.lines.append(name)
        yield lambda *_: None

    def say(self, text: str) -> None:
        self.lines.append(text)


def brought_up(folder: Path) -> tuple[Cluster, Workplace, list[str]]:
    """Do the steps of `up` that make what the appliance serves; return what they said too."""
    cluster = load([folder / "rack.yaml"])
    place, said = Workplace(folder / "deploy", cluster.metadata.name), Said()
    run = steps.Run(configs=(folder / "rack.yaml",), place=place, cluster=cluster, reporter=said)
    keyring = steps.keys(run)
    steps.programs(run)
    steps.write(run, steps.render(run, keyring.public))
    steps.build_images(run)
    return cluster, place, said.lines


@contextmanager
def serving(folder: Path, cluster: Cluster, place: Workplace) -> Iterator[Appliance]:
    os_ = cluster.pools[0].os
    image = find_manifest(place.cache, os_.family, os_.release, os_.kernel)
    assert image is not None
    log = folder / "web.log"
    process = web_bench.start(place.work, place.cache, log)
    made = Appliance(place.work, place.cache, cluster, image, process, log)
    try:
        made.await_ready()
        yield made
    finally:
        web_bench.end(process)


def ignite(document: bytes, root: Path) -> str:
    """Have the real engine apply `document` to `root` as its live system does, and return its log."""
    for path, text in (
        ("etc/selinux/config", "SELINUX=disabled\nSELINUXTYPE=none\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\nadm:x:4:\nsudo:x:27:\nsystemd-journal:x:101:\n"),
        ("etc/shadow", "root:*:19000:0:99999:7:::\n"),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "root").mkdir()
    aside = root.with_name(f"{root.name}-engine")
    (aside / "bin").mkdir(parents=True)
    (aside / "bin/setfiles").write_text(SETFILES)
    (aside / "bin/setfiles").chmod(0o755)
    (aside / "config.ign").write_bytes(document)
    environment = {
        "PATH": f"{aside / 'bin'}:{os.environ['PATH']}",
        "IGNITION_CONFIG_FILE": str(aside / "config.ign"),
    }
    log = ""
    for stage in ("fetch", "files"):
        words = (f"--stage={stage}", f"--root={root}", "--platform=file", "--log-to-stdout")
        more = (f"--config-cache={aside}/cache", f"--state-file={aside}/state", f"--neednet={aside}/neednet")
        done = subprocess.run(
            (ENGINE, *words, *more), env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        log += done.stdout
        assert done.returncode == 0, done.stdout[-3000:]
    return log


@contextmanager
def loop_device(path: Path) -> Iterator[str]:
    """Make `path` a block device."""
    with path.open("wb") as disk:
        disk.truncate(SIZE)
    done = subprocess.run(
        ("losetup", "--find", "--show", path), check=True, capture_output=True, text=True, timeout=20
    )
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(("losetup", "--detach", done.stdout.strip()), check=True, timeout=20)


@dataclass
class LiveSystem:
    """What a machine has in RAM: its root, its kernel's arguments, its disk, and programs that stand in."""

    folder: Path
    root: Path
    arguments: str
    disk: str
    family: str
    tools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir(parents=True)
        (self.folder / "by-path").mkdir()
        (self.folder / "cmdline").write_text(self.arguments + "\n")
        nothing = "#!/bin/sh\n:\n"
        ends = {"lsblk": LSBLK, "sync": SYNC, "reboot": nothing, "udevadm": nothing}
        ends[maker(self.family).command[0]] = STAND_IN
        for name, text in {**ends, **self.tools}.items():
            (self.folder / "bin" / name).write_text(text)
            (self.folder / "bin" / name).chmod(0o755)

    def install(self) -> str:
        """Run the installer as its unit does; return what is on the console."""
        home = self.root / "opt/firstlight"
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "DISK": self.disk,
            "FL_ETC": str(self.root / "etc/firstlight"),
            "FL_RUN": str(self.folder / "run"),
            "FL_MAKER": str(home / "maker"),
            "FL_CMDLINE": str(self.folder / "cmdline"),
            "FL_BY_PATH": str(self.folder / "by-path"),
            "FL_START_DISK": "true",
            "FL_TRIES": "3", "FL_PATIENCE": "3", "FL_LOOK_PAUSE": "0.1", "FL_FAILED_WAIT": "0", "FL_WATCH_PAUSE": "0.5",
        }  # fmt: skip
        # Mounts of its own: RAM for the image is given back with them.
        words = ("unshare", "--mount", "--propagation", "private", "timeout", "120", str(home / "install"))
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, timeout=150
        )
        return done.stdout + done.stderr

    def argv(self) -> list[str]:
        return (self.folder / "argv").read_text().splitlines()


__all__ = ["RAW", "RELEASES", "raw_disk"]
