"""iPXE for arm64, which Debian 12 has not: out of Debian 13's package, as docs/dhcp.md tells."""

import subprocess
import tempfile
from pathlib import Path

from tests.system.spine import CACHE

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie main\n"
IN_PACKAGE = "usr/lib/ipxe/ipxe-arm64.efi"
DOWNLOAD_SECONDS = 300


def arm64_loader() -> Path:
    """Return the loader, from the cache, or else downloaded by apt, which checks the package by Debian's signature."""
    target = CACHE.resolve() / "arm64" / "ipxe-arm64.efi"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _downloaded(Path(folder)).replace(target)
    return target


def _downloaded(folder: Path) -> Path:
    """Download the package with lists and folders of our own, so that this computer's apt knows nothing of it."""
    (folder / "trixie.list").write_text(SOURCE)
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": f"{folder}/trixie.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": f"{folder}/lists",
        "Dir::Cache": f"{folder}",
        "APT::Sandbox::User": "root",
    }
    apt = ("apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}")))
    for command in ((*apt, "update"), (*apt, "download", "ipxe")):
        subprocess.run(command, cwd=folder, check=True, timeout=DOWNLOAD_SECONDS)
    (package,) = folder.glob("ipxe_*.deb")
    subprocess.run(("dpkg-deb", "--extract", package, folder / "out"), check=True, timeout=60)
    return folder / "out" / IN_PACKAGE
