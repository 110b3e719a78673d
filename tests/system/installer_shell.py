"""A machine's files in place of disks, and a shell that has the installer's functions."""

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

INSTALLER = Path(__file__).parents[2] / "configs" / "installer"
MIB = 1 << 20
SIZE = 64 * MIB
ARM = "0f6c3f0e-5d0c-4b57-9d1e-6a3a5e1c0001"
GIB = 1 << 30

# Stands in for lsblk: the disks of a JSON file, or the partitions of a disk from a text file beside it.
FAKE_LSBLK = """\
#!/bin/sh
for last; do :; done
case $* in
*--json*) cat "$FL_FAKE/lsblk.json" ;;
*MOUNTPOINT*) echo "disk disk"; cat "$FL_FAKE/users" 2>/dev/null ;;
*) echo "$last"; cat "$FL_FAKE/partitions" 2>/dev/null ;;
esac
exit 0
"""
# What the tests see of the end: no restart, the failure's text, and no network.
ENDS = """\
FL_FAILED_WAIT=0
restart() { exit 9; }
report() { printf '%s\\n' "$*" >>"$FL_RUN/reports"; }
progress() { printf 'progress %s\\n' "$*" >>"$FL_RUN/reports"; }
"""


SHELLS = ("dash", "bash --posix")
"""Both shells that run it: Debian's in our initrd, and that of the CoreOS families."""


class Sandbox:
    """One machine's files, and a shell that has the installer's functions."""

    def __init__(self, folder: Path, shell: str) -> None:
        self.folder = folder
        self.shell = shell
        self.etc, self.run_folder, self.fake = folder / "etc", folder / "run", folder / "fake"
        for made in (self.etc, self.run_folder, self.fake, folder / "bin", folder / "by-path"):
            made.mkdir()
        self.tool("lsblk", FAKE_LSBLK)
        self.disk = folder / "disk"
        with self.disk.open("wb") as disk:
            disk.truncate(SIZE)
        (folder / "cmdline").write_text(f"boot=firstlight firstlight.arm={ARM} console=ttyS0\n")
        self.settings({})

    def tool(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def settings(
        self, select: dict[str, Any], wipe: list[str] | None = None, server: str = "https://127.0.0.1:1"
    ) -> None:
        task = {"cluster": "c1", "machine": "w1", "pool": "p", "mac": "52:54:00:00:00:01", "server": server,
                "disk": {"select": select, "wipe": wipe or []}}  # fmt: skip
        (self.etc / "install.json").write_text(json.dumps(task))

    def disks(self, *disks: dict[str, Any]) -> None:
        (self.fake / "lsblk.json").write_text(json.dumps({"blockdevices": disks}))

    def sh(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `script` with the functions of the installer and the disk chosen."""
        text = f". {INSTALLER}/install\n{ENDS}\nload\ndisk={self.disk} disk_size={SIZE} image_sha256={'e' * 64}\n"
        return subprocess.run(
            [*self.shell.split(), "-c", text + textwrap.dedent(script)],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "FL_SOURCE_ONLY": "1",
                "FL_ETC": str(self.etc),
                "FL_RUN": str(self.run_folder),
                "FL_FAKE": str(self.fake),
                "FL_CMDLINE": str(self.folder / "cmdline"),
                "FL_BY_PATH": str(self.folder / "by-path"),
                "FL_TRIES": "3",
                "FL_PATIENCE": "3",
                "FL_LOOKS": "2",
                "FL_LOOK_PAUSE": "0",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def reports(self) -> str:
        path = self.run_folder / "reports"
        return path.read_text() if path.exists() else ""


def row(path: str, size: int = 500 * GIB, **more: Any) -> dict[str, Any]:
    base = {"path": path, "type": "disk", "size": size, "serial": None, "wwn": None, "model": None, "rota": False,
            "tran": None, "ro": False, "rm": False, "log-sec": 512}  # fmt: skip
    return base | more


def put(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as disk:
        disk.seek(at)
        disk.write(content)


IMAGE_TABLE = """\
label: gpt
unit: sectors
first-lba: 34
start=34, size=2006, type=21686148-6449-6E6F-744E-656564454649, name=firstlight-bios
start=2048, size=8192, type=U, name=firstlight-esp
start=10240, size=20480, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=firstlight-root
"""
RAW = 16 * MIB


def disk_image(folder: Path) -> bytes:
    """Return an image with the partitions of ours, and a word at each place that is looked at."""
    path = folder / "image"
    path.write_bytes(bytes(RAW))
    subprocess.run(["sfdisk", str(path)], input=IMAGE_TABLE, text=True, check=True, capture_output=True)
    put(path, 0, b"\xeb\x63BOOTCODE")
    put(path, 34 * 512, b"CORE")
    put(path, MIB, b"ESP")
    put(path, 5 * MIB, b"ROOT")
    return path.read_bytes()
