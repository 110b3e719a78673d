"""iPXE of a later Debian than this computer's: for arm64, which Debian 12 has not (docs/dhcp.md), or a newer one."""

import platform
import subprocess
import tempfile
from pathlib import Path

from tests.system.spine import CACHE

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
TARGETS = ("indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages", "Component: main")
IN_PACKAGE = "usr/lib/ipxe/ipxe-arm64.efi"
DOWNLOAD_SECONDS = 300


def arm64_loader() -> Path:
    """Return the loader for arm64 of Debian 13."""
    return loader_of("trixie", IN_PACKAGE, folder="arm64")


def loader_of(suite: str, in_package: str, *, folder: str = "") -> Path:
    """Return a file of a suite's package ipxe, from a folder of the cache (by default the suite's).

    Else apt downloads it, which checks the package by Debian's signature.
    """
    target = CACHE.resolve() / (folder or f"ipxe-{suite}") / Path(in_package).name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as fresh:
            _downloaded(Path(fresh), suite, in_package).replace(target)
    return target


def source_of(targets: str, release: str, suite: str = "trixie") -> str:
    """Return the line of sources.list for a suite of Debian, on the mirror from which apt takes `release`; pure.

    `targets` has a line for each index that apt knows: its release, and the URI of its mirror.
    """
    mirrors = dict(reversed([line.split(" ", 1) for line in targets.splitlines()]))
    assert release in mirrors, f"apt has no source of {release}; write one to /etc/apt/sources.list.d"
    return f"deb [signed-by={KEYRING}] {mirrors[release]} {suite} main\n"


def _downloaded(folder: Path, suite: str, in_package: str) -> Path:
    """Download the package with lists and folders of our own, so that this computer's apt knows nothing of it."""
    targets = subprocess.run(("apt-get", *TARGETS), check=True, capture_output=True, text=True, timeout=60)
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    (folder / "suite.list").write_text(source_of(targets.stdout, release, suite))
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": f"{folder}/suite.list",
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
    return folder / "out" / in_package
