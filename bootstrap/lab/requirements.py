"""What the lab needs of this computer, each with the Debian package that brings it."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab.machine import QEMU, Ovmf, Vm

COMMANDS = {
    QEMU: "qemu-system-x86",
    "ip": "iproute2",
    "ssh": "openssh-client",
}
HOST_COMMANDS = {
    "systemd-nspawn": "systemd-container",
    "zstd": "zstd",
}
BMC_COMMANDS = {"ipmi_sim": "openipmi"}
BIOS_FILES = {
    "/usr/share/seabios/bios-256k.bin": "seabios",
    "/usr/lib/ipxe/qemu/efi-virtio.rom": "ipxe-qemu",
}
TUN = Path("/dev/net/tun")

OVMF_FOLDER = Path("/usr/share/OVMF")
# Debian 13 has only the 4 MiB kind; of Debian 12's two it is the one that is still maintained.
OVMF_PAIRS = (("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd"))


def find_ovmf(folder: Path = OVMF_FOLDER) -> Ovmf | None:
    """Return the UEFI firmware of this computer, or None."""
    for code, variables in OVMF_PAIRS:
        pair = Ovmf(code=folder / code, variables=folder / variables)
        if pair.code.is_file() and pair.variables.is_file():
            return pair
    return None


def missing_packages(vms: Sequence[Vm], *, hosts: bool = False, bmcs: bool = False) -> tuple[str, ...]:
    """Return the Debian packages that `vms` (and hosts, and BMCs) need and that are not there, by name."""
    return tuple(sorted(set(_missing(vms, hosts=hosts, bmcs=bmcs))))


def _missing(vms: Sequence[Vm], *, hosts: bool, bmcs: bool) -> Iterator[str]:
    commands = {**COMMANDS, **(HOST_COMMANDS if hosts else {}), **(BMC_COMMANDS if bmcs else {})}
    yield from (package for command, package in commands.items() if not shutil.which(command))
    if not all(vm.is_uefi for vm in vms):
        yield from (package for file, package in BIOS_FILES.items() if not Path(file).is_file())
    if any(vm.is_uefi for vm in vms) and find_ovmf() is None:
        yield "ovmf"


def check(vms: Sequence[Vm], *, hosts: bool = False, bmcs: bool = False) -> None:
    """Do nothing if this computer can run `vms`, and hosts and BMCs beside them.

    Raises:
        LabError: it cannot; the text says what to do.
    """
    check_root()
    missing = missing_packages(vms, hosts=hosts, bmcs=bmcs)
    if missing:
        command = f"apt-get install --no-install-recommends {' '.join(missing)}"
        raise LabError(f"the lab lacks Debian packages: {' '.join(missing)}\nas root: {command}")
    if not TUN.exists():
        raise LabError(f"{TUN} is not there, so machines get no network: modprobe tun")


def check_root() -> None:
    """Do nothing if we are root.

    Raises:
        LabError: we are not.
    """
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces, which needs root: run the same command with sudo")
