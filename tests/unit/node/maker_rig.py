"""A machine in the live system of a maker: the real agent and the real application over TLS; disk and maker stand in.

The maker's installer is a program that writes down how it was called, and writes the image to the disk as the real
one does. The disk is a file.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bootstrap.artifacts import Artifact, Manifest
from bootstrap.model import Cluster
from bootstrap.records.documents import INSTALLED
from bootstrap.render.machines import installed_document, installer_task
from certs.keystore import Keystore
from certs.wanted import rows
from tests.maker_images import MIB, RAW, RELEASES, SECTOR, maker, raw_disk, release
from tests.unit.node.appliance import LOOPBACK, PROVISIONING, ROOT, served
from tests.unit.web.conftest import IMAGE, Rack
from tests.unit.web.fakes import W1, cluster
from web.site import Rendered

SIZE = 64 * MIB
MARKER_AT, END_AT = 2040 * SECTOR, SIZE - MIB
APPLIANCE = ip_address("10.77.0.1")
SERIAL = "S-TARGET"
ENDS = ("attempt-failed", "failed", "complete", "already-installed")

# What stands in the place of the makers' installers: it takes the options that the real one takes and no others, wants
# what the real one wants, and writes the image as that does. `before` is what a test has it do first.
STAND_IN = r"""#!/bin/sh
printf '%s\n' "$@" >"$FAKE/argv"
cat >"$FAKE/stdin"
[ -e /proc/self/fd/8 ] && touch "$FAKE/holds-the-disk"
disk= image= config=
case $0 in
*/flatcar-install)
    while getopts "V:B:C:DI:d:o:c:e:i:t:b:k:f:nusyvh" option; do
        case $option in d) disk=$OPTARG ;; f) image=$OPTARG ;; i) config=$OPTARG ;; *) exit 1 ;; esac
    done
    ;;
*/coreos-installer)
    [ "$1" = install ] || exit 2
    while shift && [ $# -gt 0 ]; do
        case $1 in
        --image-file) image=$2 && shift ;;
        --ignition-file) config=$2 && shift ;;
        --insecure) ;;
        -*) exit 2 ;;
        *) [ -z "$disk" ] && disk=$1 || exit 2 ;;
        esac
    done
    ;;
esac
[ -w "$disk" ] && [ -r "$image" ] && [ -f "$config" ] || exit 1
cp "$config" "$FAKE/config"
dd if="$disk" of="$FAKE/at-start" bs=512 count=2048 2>/dev/null
[ -e "$FAKE/before" ] && . "$FAKE/before"
case $image in *.bz2) bzip2 -cd "$image" ;; *.xz) xz -cd "$image" ;; *) exit 1 ;; esac |
    dd of="$disk" bs=1M conv=nocreat,notrunc 2>/dev/null
echo "Success!"
"""
TOOLS = {
    # The disks of a JSON file; partitions of a disk from a text file; nobody uses any.
    "lsblk": '#!/bin/sh\nfor last; do :; done\ncase $* in\n*--json*) cat "$FAKE/lsblk.json" ;;\n'
    '*MOUNTPOINT*) echo "disk disk" ;;\n*) echo "$last"; cat "$FAKE/partitions" 2>/dev/null ;;\nesac\nexit 0\n',
    "mount": "#!/bin/sh\n:\n",
    "umount": "#!/bin/sh\n:\n",
    "losetup": "#!/bin/sh\nexit 1\n",
    "blockdev": "#!/bin/sh\n:\n",
    "udevadm": "#!/bin/sh\n:\n",
    "reboot": "#!/bin/sh\n:\n",
    "sync": "#!/bin/sh\n:\n",
    "sleep": "#!/bin/sh\nexec /bin/sleep 0.02\n",
    "curl": '#!/bin/sh\nexec /usr/bin/curl --connect-to "10.77.0.1:8443:127.0.0.1:$PORT" "$@"\n',
}


class MakerRack(Rack):
    """A rack whose pools run a maker's system, with the real document of each machine."""

    def rendered(self) -> Rendered:
        found = super().rendered()
        documents = {
            (m.mac, kind): installed_document(self.cluster, m, b"ca") if kind == INSTALLED else content
            for m in self.cluster.machines
            for (mac, kind), content in found.documents.items()
            if mac == m.mac
        }
        return Rendered(found.cluster, documents, found.shared)


class Artifacts:
    """nginx's part: artifacts by their sums, in ranges; all else is the application's."""

    def __init__(self, app: Any, files: dict[str, bytes]) -> None:
        self.app, self.files = app, files
        self.fetched: list[str] = []

    def wsgi_app(self, environ: Any, start: Any) -> Any:
        match = re.fullmatch(r"/artifacts/sha256/([0-9a-f]{64})", environ["PATH_INFO"])
        if match is None:
            return self.app.wsgi_app(environ, start)
        self.fetched.append(match[1])
        content = self.files.get(match[1])
        if content is None:
            start("404 Not Found", [("Content-Length", "0")])
            return [b""]
        first, last = (int(text) for text in environ["HTTP_RANGE"].removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        start("206 Partial Content", [("Content-Length", str(len(part)))])
        return [part]

    def __call__(self, environ: Any, start: Any) -> Any:
        return self.wsgi_app(environ, start)


@dataclass
class Live:
    """One machine in its live system."""

    folder: Path
    family: str
    rack: MakerRack
    artifacts: Artifacts
    port: int
    raw: bytes
    shell: str = "dash"
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        return self.folder / "vda"

    @property
    def program(self) -> str:
        return maker(self.family).command[0]

    def file(self, path: str, text: str | bytes) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return target

    def tool(self, name: str, text: str) -> None:
        self.file(f"bin/{name}", text).chmod(0o755)

    def before(self, script: str) -> None:
        """Have the maker's installer do this before it writes."""
        self.file("before", script)

    def boot(self, **settings: str) -> str:
        """Ask for a script, run the agent to its end, and return what is on the console."""
        self.rack.boot()
        machine = self.rack.cluster.machines[0]
        self.file("etc/install.json", json.dumps(installer_task(self.rack.cluster, machine)))
        self.file("cmdline", f"firstlight.arm={self.rack.record().arm} console=ttyS0\n")
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "PORT": str(self.port),
            "FL_ETC": str(self.folder / "etc"),
            "FL_RUN": str(self.folder / "run"),
            "FL_SYS": str(self.folder / "sys"),
            "FL_PROC": str(self.folder / "proc"),
            "FL_BY_PATH": str(self.folder / "by-path"),
            "FL_CMDLINE": str(self.folder / "cmdline"),
            "FL_MAKER": str(ROOT / "configs/installer/maker"),
            "FL_START_DISK": "true",
            "FL_TRIES": "2", "FL_PATIENCE": "2", "FL_END_TRIES": "2", "FL_LOOK_PAUSE": "0", "FL_FAILED_WAIT": "0",
            "FL_WATCH_PAUSE": "0.2",
            **self.settings,
            **settings,
        }  # fmt: skip
        done = subprocess.run(
            ("timeout", "100", *self.shell.split(), str(ROOT / "configs/installer/install")),
            env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        return done.stdout + done.stderr

    def argv(self) -> list[str]:
        return (self.folder / "argv").read_text().splitlines()

    @property
    def was_called(self) -> bool:
        return (self.folder / "argv").exists()

    def forget_call(self) -> None:
        (self.folder / "argv").unlink()

    def marker(self, at: int = MARKER_AT) -> dict[str, str]:
        with self.disk.open("rb") as disk:
            disk.seek(at)
            line = disk.read(SECTOR).rstrip(b"\0").decode(errors="replace")
        return dict(word.split("=", 1) for word in line.split() if "=" in word)

    def is_bootable(self) -> bool:
        with self.disk.open("rb") as disk:
            head = disk.read(2 * SECTOR)
            disk.seek(-SECTOR, os.SEEK_END)
            return head[510:512] == b"\x55\xaa" or head[512:520] == b"EFI PART" or disk.read(8) == b"EFI PART"

    def holds_the_image(self) -> bool:
        """Say whether every byte of the image is in its place, but for our marker."""
        content = bytearray(self.disk.read_bytes()[:RAW])
        content[MARKER_AT : MARKER_AT + SECTOR] = bytes(SECTOR)
        return bytes(content) == self.raw

    def disks(self, *more: dict[str, Any]) -> None:
        base = {"path": str(self.disk), "type": "disk", "size": SIZE, "serial": SERIAL, "wwn": None, "model": None,
                "rota": False, "tran": "virtio", "ro": False, "rm": False, "log-sec": 512}  # fmt: skip
        self.file("lsblk.json", json.dumps({"blockdevices": [base, *(base | row for row in more)]}))

    def told(self) -> list[str]:
        """Return how installs ended, as the appliance wrote it down."""
        events = self.rack.operator("GET", "/v1/events?machine=w1").json or {}
        return [event["what"] for event in events["events"] if event["what"] in ENDS]


def cluster_of(family: str, **disk: Any) -> Cluster:
    tree = cluster().model_dump(mode="json", by_alias=True, exclude_none=True)
    for pool in tree["pools"]:
        pool["os"] = {"family": family, "release": RELEASES[family]}
        pool["disk"] = {"select": {"serial": SERIAL}, **disk}
    return Cluster.model_validate(tree)


def image_of(family: str) -> tuple[Manifest, dict[str, bytes], bytes]:
    """Return the family's image, its files by their sums, and the disk that it unpacks to."""
    raw = raw_disk(family, RELEASES[family])
    content = next(c for n, c in release(family).items() if n.endswith((".bz2", ".xz")))
    sum_ = hashlib.sha256(content).hexdigest()
    image = replace(
        IMAGE, family=family, release=RELEASES[family], disk=Artifact(sum_, len(content)), raw_size=RAW
    )
    if family == "fedora-coreos":
        image = replace(image, rootfs=Artifact("d" * 64, 5))
    return image, {sum_: content}, raw


@contextmanager
def live(folder: Path, family: str) -> Iterator[Live]:
    """Give a machine in its live system, with an empty disk."""
    now = datetime.now(UTC)
    names = replace(PROVISIONING, appliance_ips=(LOOPBACK, APPLIANCE))
    Keystore(folder / "pki").ensure([row for row in rows(names) if row.name.startswith("provisioning/")], now)
    image, files, raw = image_of(family)
    rack = MakerRack(cluster=cluster_of(family), image=image)
    rack.clock.now = now - timedelta(seconds=1)
    rack.site.load()
    artifacts = Artifacts(rack.app, files)
    with served(artifacts, folder / "pki") as server:  # type: ignore[arg-type]  # it is one as far as this goes
        made = Live(folder, family, rack, artifacts, int(server.rpartition(":")[2]), raw)
        for name, text in {**TOOLS, made.program: STAND_IN}.items():
            made.tool(name, text)
        for empty in ("run", "sys", "by-path"):
            (folder / empty).mkdir()
        made.file("etc/provisioning-ca.crt", (folder / "pki/provisioning/ca.crt").read_bytes())
        made.file("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable:   6000000 kB\n")
        with made.disk.open("wb") as disk:
            disk.truncate(SIZE)
        made.disks()
        yield made


__all__ = ["END_AT", "MARKER_AT", "SIZE", "W1", "Live", "cluster_of", "live"]
