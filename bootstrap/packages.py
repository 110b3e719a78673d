"""Which Debian packages each kind of work needs, and how they are installed on a Debian machine.

Services that a package would start are kept off: firstlight runs its own nginx, on its own ports.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bootstrap.errors import PreflightError
from bootstrap.progress import Progress

SERVE = (
    "dnsmasq-base",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "ipxe",
    "nftables",
    "nginx",
    "tftpd-hpa",
)
STARTED_BY_PACKAGES = ("nginx", "tftpd-hpa")
"""Services that their packages switch on; we run these programs ourselves, on addresses and ports of our choice."""
LAB = (
    "iproute2",
    "ipxe-qemu",
    "openssh-client",
    "ovmf",
    "qemu-system-x86",
    "seabios",
    "systemd-container",  # its hosts
    "zstd",
)

LAB_BMC = ("openipmi",)
"""What a lab needs beside that if its machines have BMCs."""

POLICY = Path("/usr/sbin/policy-rc.d")  # invoke-rc.d asks it before starting a service; 101 means no
POLICY_TEXT = "#!/bin/sh\n# firstlight: no service starts while its packages are installed\nexit 101\n"


def ensure(names: Sequence[str], progress: Progress) -> tuple[str, ...]:
    """Install the packages of `names` that are missing and return them; nothing missing: nothing done.

    Raises:
        PreflightError: not root, not Debian, or apt-get failed; the text holds the command to type.
    """
    absent = missing(names)
    if not absent:
        return ()
    command = f"apt-get install --no-install-recommends {' '.join(absent)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise PreflightError(f"these Debian packages are missing: {' '.join(absent)}\nas root: {command}")
    progress(f"installing Debian packages: {' '.join(absent)}")
    with no_services_started():
        _apt("update", "-qq")
        _apt("install", "-y", "-qq", "--no-install-recommends", *absent)
    if shutil.which("systemctl"):
        for service in (name for name in STARTED_BY_PACKAGES if name in absent):
            command_line = ["systemctl", "disable", "--quiet", f"{service}.service"]
            subprocess.run(command_line, check=False, capture_output=True)
    return absent


def for_lab(*, bmcs: bool) -> tuple[str, ...]:
    """Return what a lab needs, whose machines may have BMCs."""
    return (*LAB, *LAB_BMC) if bmcs else LAB


def missing(names: Sequence[str]) -> tuple[str, ...]:
    """Return the packages of `names` that dpkg does not know as installed, in the order given."""
    try:
        query = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names],
            check=False,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        text = "this is no Debian system (no dpkg-query); serving needs Debian 12 or 13 as root"
        raise PreflightError(text) from error
    installed = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    return tuple(name for name in names if name not in installed)


@contextmanager
def no_services_started() -> Iterator[None]:
    """Keep packages from starting their services meanwhile; an existing policy of the site is left alone."""
    if POLICY.exists() and POLICY.read_text() != POLICY_TEXT:  # one of ours is what a killed run left
        yield
        return
    try:
        POLICY.write_text(POLICY_TEXT)
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> None:
    command = ["apt-get", *arguments]
    # A session of its own: Ctrl-C must not hit dpkg in the middle of a package.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:
        process.communicate()
        raise
    if process.returncode != 0:
        tail = "\n".join(output.splitlines()[-10:])
        raise PreflightError(f"{' '.join(command)} failed (exit {process.returncode}):\n{tail}")
