"""Installs the Debian packages that the system tests use; run by `./check system`, as root."""

import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap import packages
from bootstrap.image.debian import HOST_PACKAGES

CHECKERS = (
    "btrfs-progs",
    "cryptsetup-bin",
    "busybox-static",
    "cloud-init",  # cloud-init schema
    "curl",
    "dash",
    "dosfstools",
    "dpkg-dev",  # tests/kubernetes/build
    "etcd-client",
    "etcd-server",
    "faketime",
    "fdisk",
    "file",
    "gdisk",
    "git",
    "gnupg",  # the keys and signatures of makers
    "gpgv",
    "ignition",  # ignition-validate
    "iptables",
    "isc-dhcp-server",  # a site's own DHCP server
    "jq",
    "kea-admin",  # perfdhcp
    "kea-dhcp4-server",  # what dnsmasq is measured beside
    "openipmi",  # ipmi_sim, a BMC
    "openssl",
    "podman",
    "procps",
    "qemu-efi-aarch64",
    "qemu-system-arm",
    "python3-venv",
    "runc",
    "shellcheck",
    "skopeo",
    "snmpd",  # a power strip's agent
    "strace",
    "systemd",  # systemd-analyze
    "tcpdump",
    "xfsprogs",
)


SERVERS = {"isc-dhcp-server", "kea-dhcp4-server", "openipmi", "snmpd"}
"""Packages whose service shall not start with this computer: tests run the program themselves."""

CLOUD_INIT_OFF = Path("/etc/cloud/cloud-init.disabled")
"""Where this file is, cloud-init never starts: it is here to check documents, not to set up this computer."""


def main() -> None:
    """Install what is missing, and say what."""
    if not shutil.which("cloud-init"):
        CLOUD_INIT_OFF.parent.mkdir(exist_ok=True)
        CLOUD_INIT_OFF.touch()
    wanted = (*packages.SERVE, *packages.LAB, *HOST_PACKAGES, *CHECKERS)
    installed = packages.ensure(wanted, say)
    for package in SERVERS & set(installed) if shutil.which("systemctl") else ():
        subprocess.run(["systemctl", "disable", "--quiet", f"{package}.service"], check=False)
    sys.stderr.write(f"system tests: {len(installed)} packages installed, {len(wanted)} in place\n")


def say(what: str, done: int | None = None, total: int | None = None) -> None:
    """Write a line to stderr."""
    del done, total
    sys.stderr.write(f"{what}\n")


if __name__ == "__main__":
    main()
