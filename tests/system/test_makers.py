"""Flatcar and Fedora CoreOS from their makers' servers to a disk and a root, as far as it goes without their programs.

Needs root and Debian's gpg, gpgv, nginx, ignition.
"""

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from bootstrap.cli import run
from tests.maker_images import RAW, RELEASES, SECTOR, raw_disk, release
from tests.system import mirror_site as makers
from tests.system.maker_rack import MAC, LiveSystem, brought_up, ignite, loop_device, pulled, serving
from tests.system.mirror_rack import Rack
from tests.system.web_bench import Appliance

pytestmark = pytest.mark.system

GOLDEN = Path(__file__).parent / "golden"
MARKER = slice(2040 * SECTOR, 2041 * SECTOR)


class Quiet:
    """In place of pytest's capture, which a fixture of a module cannot have."""

    def readouterr(self) -> Any:
        return type("Said", (), {"out": "", "err": ""})


@dataclass
class Installed:
    """One machine from the mirror to its disk, and what was seen on the way."""

    family: str
    folder: Path
    web: Appliance
    said: list[str]
    script: str
    live: bytes
    root: Path
    machine: LiveSystem
    disk: Path
    console: str

    @property
    def config(self) -> bytes:
        return (self.machine.folder / "config").read_bytes()

    def url(self, word: str) -> str:
        match = re.search(rf"{word}[ =](http://\S+)", self.script)
        assert match, self.script
        return match[1]

    def fetched(self, url: str) -> bytes:
        answer = self.web.plain("GET", url.partition(str(self.web.http_port))[2])
        assert answer.status == 200
        return answer.body


@pytest.fixture(scope="module", params=sorted(RELEASES))
def installed(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Installed]:
    family, folder = request.param, tmp_path_factory.mktemp("rack")
    rack = Rack(folder, Quiet())  # type: ignore[arg-type]  # as above
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.delenv("FIRSTLIGHT_CACHE", raising=False)
        gpg = stack.enter_context(makers.keys(tmp_path_factory.mktemp("gpg") / "home"))
        pem = makers.certificate(tmp_path_factory.mktemp("tls"))
        stack.enter_context(pulled(folder, family, rack, gpg, pem))
        cluster, place, said = brought_up(folder)
        web = stack.enter_context(serving(folder, cluster, place))
        mac = MAC.replace(":", "-")
        assert f"/ipxe?mac={'${netX/mac:hexhyp}'}".encode() in web.plain("GET", "/boot.ipxe").body
        script = web.plain("GET", f"/ipxe?mac={mac}&platform=efi").body.decode()
        live = web.plain("GET", f"/v1/ignition/{mac}").body
        root = folder / "live-root"
        ignite(live, root)
        arguments = next(line for line in script.splitlines() if line.startswith("kernel "))
        disk = stack.enter_context(loop_device(folder / "disk"))
        machine = LiveSystem(
            folder / "machine", root, arguments.removesuffix(" || goto failed"), disk, family
        )
        console = machine.install()
        yield Installed(family, folder, web, said, script, live, root, machine, folder / "disk", console)


def test_the_images_come_from_the_mirror(installed: Installed) -> None:
    version = RELEASES[installed.family]

    assert installed.web.image.version == version
    assert any(version in line for line in installed.said)


def test_the_machine_is_sent_its_makers_files_byte_for_byte(installed: Installed) -> None:
    wanted = {hashlib.sha256(content).hexdigest() for content in release(installed.family).values()}
    urls = [installed.url("kernel"), installed.url("--name initrd")]
    if installed.family == "fedora-coreos":
        urls.append(installed.url("coreos.live.rootfs_url"))

    for url in urls:
        assert hashlib.sha256(installed.fetched(url)).hexdigest() == url.rpartition("/")[2]
        assert url.rpartition("/")[2] in wanted
    assert len(set(urls)) == len(release(installed.family)) - 1, "all but the disk's image"


def test_the_real_engine_gives_the_live_system_the_agent(installed: Installed) -> None:
    home = installed.root / "opt/firstlight"

    assert (home / "install").read_bytes() == Path("configs/installer/install").read_bytes()
    assert (home / "maker").read_bytes() == Path("configs/installer/maker").read_bytes()
    assert stat.S_IMODE((home / "install").stat().st_mode) == 0o755
    preset = (installed.root / "etc/systemd/system-preset/20-ignition.preset").read_text()
    assert "enable firstlight-install.service" in preset


def test_the_agent_installs_by_the_maker_s_command(installed: Installed) -> None:
    machine = installed.machine
    config, folder = machine.folder / "run/config.ign", machine.folder / "run/image"
    expected = {
        "flatcar": ["-d", machine.disk, "-f", folder / "flatcar_production_image.bin.bz2", "-i", config],
        "fedora-coreos": [
            "install", "--insecure", "--image-file", folder / "fedora-coreos-metal.x86_64.raw.xz",
            "--ignition-file", config, machine.disk,
        ],
    }  # fmt: skip

    assert machine.argv() == [str(word) for word in expected[installed.family]], installed.console
    assert (machine.folder / "stdin").read_bytes() == b""


def test_the_disk_holds_the_image_and_our_marker(installed: Installed) -> None:
    content = bytearray(installed.disk.read_bytes()[:RAW])
    assert b"machine=w1" in content[MARKER]
    assert b"state=installed" in content[MARKER]
    content[MARKER] = bytes(SECTOR)

    assert bytes(content) == raw_disk(installed.family, RELEASES[installed.family])
    assert installed.disk.read_bytes()[RAW:].strip(b"\0") == b"", "nothing of ours is left behind the image"


def test_the_appliance_knows_that_it_is_installed_and_sends_it_to_its_disk(installed: Installed) -> None:
    machine = installed.web.operator.machine("w1")
    events = [event["what"] for event in installed.web.operator.events(machine="w1")]

    assert (machine["state"], machine["attempts"]) == ("installed", 1), installed.console
    assert "complete" in events
    script = installed.web.plain("GET", f"/ipxe?mac={MAC}&platform=efi").body.decode()
    assert "w1 is installed" in script


@pytest.fixture(scope="module")
def document_and_root(installed: Installed) -> tuple[dict[str, Any], Path]:
    """What the maker's installer was given, and the root that the real engine makes of it."""
    root = installed.folder / "disk-root"
    ignite(installed.config, root)
    return json.loads(installed.config), root


def test_kernel_arguments_are_left_to_the_systems_own_ignition(installed: Installed) -> None:
    assert json.loads(installed.config)["kernelArguments"] == {"shouldExist": ["nomodeset"]}


def test_the_root_holds_what_the_document_says(document_and_root: tuple[dict[str, Any], Path]) -> None:
    document, root = document_and_root

    for file in document["storage"]["files"]:
        path, source = root / file["path"].lstrip("/"), file["contents"]["source"]
        assert stat.S_IMODE(path.stat().st_mode) == file["mode"], file["path"]
        if source.startswith("data:,"):
            assert path.read_bytes() == unquote_to_bytes(source.removeprefix("data:,")), file["path"]
        else:
            sum_ = file["contents"]["verification"]["hash"].removeprefix("sha256-")
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sum_, file["path"]


def test_the_root_is_the_golden_one(
    installed: Installed, document_and_root: tuple[dict[str, Any], Path]
) -> None:
    golden = GOLDEN / f"{installed.family}-root.txt"
    lines = listing(document_and_root[1])
    if os.environ.get("FIRSTLIGHT_UPDATE_GOLDEN"):
        golden.write_text("\n".join(lines) + "\n")

    assert lines == golden.read_text().splitlines()


def listing(root: Path) -> list[str]:
    """Every file and link below `root`: path, and mode or where it leads; what is in them is compared elsewhere."""
    # An image's name ends in the begin of its digest, and this one is made anew each time.
    found = (
        (re.sub(r"-[0-9a-f]{12}\.tar$", "-DIGEST.tar", f"/{path.relative_to(root)}"), path)
        for path in sorted(root.rglob("*"))
    )
    return [
        f"{name} -> {path.readlink()}"
        if path.is_symlink()
        else f"{name} {stat.S_IMODE(path.stat().st_mode):04o}"
        for name, path in found
        if path.is_symlink() or path.is_file()
    ]


def test_the_programs_of_the_node_are_those_of_the_mirror(
    installed: Installed, document_and_root: tuple[dict[str, Any], Path]
) -> None:
    mirror = installed.folder / "mirror/kubernetes" / makers.KUBERNETES
    root = document_and_root[1]

    for name in ("kubelet", "kube-proxy"):
        assert (root / "opt/firstlight/bin" / name).read_bytes() == (mirror / name).read_bytes()
    for name in ("bridge", "host-local", "loopback", "portmap"):
        said = subprocess.run(
            [root / "opt/cni/bin" / name], capture_output=True, text=True, check=True, timeout=10
        )
        assert said.stdout == f"{name}\n"


def test_no_validator_has_a_word_about_any_document(installed: Installed, tmp_path: Path) -> None:
    for number, document in enumerate((installed.live, installed.config)):
        path = tmp_path / f"{number}.ign"
        path.write_bytes(document)
        done = subprocess.run(
            ["ignition-validate", path], capture_output=True, text=True, check=False, timeout=60
        )

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_installed_system_tells_that_it_is_up(
    installed: Installed, document_and_root: tuple[dict[str, Any], Path]
) -> None:
    root = document_and_root[1]
    done = subprocess.run(
        [root / "opt/firstlight/report"],
        env={**os.environ, "FL_ETC": f"{root}/etc/firstlight", "FL_TRIES": "3", "FL_PAUSE": "0.5"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "booted" in [event["what"] for event in installed.web.operator.events(machine="w1")]


def test_a_release_that_nobody_mirrored_ends_image_build_with_one_line(
    installed: Installed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (installed.folder / "rack.yaml").read_text()
    tree = json.loads(text)
    tree["pools"][0]["os"]["release"] = "1.2.3"
    tree["mirror"]["directory"] = str(installed.folder / "mirror")
    (tmp_path / "rack.yaml").write_text(json.dumps(tree))
    capsys.readouterr()
    code = run(["--config", f"{tmp_path}/rack.yaml", "--deploy", f"{tmp_path}/deploy", "image", "build"])
    last = capsys.readouterr().err.splitlines()[-1]

    assert code == 1
    assert f"{installed.family} 1.2.3 is not in the mirror" in last
    assert last.endswith("run mirror pull with this configuration")
