"""Boots a machine that ends itself: by the rack's own way to boot, firmware, network card's ROM, DHCP and TFTP."""

import shutil
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, Literal, cast

from bootstrap.lab.machine import ACCEL_OPTIONS, QEMU, Accel, Ovmf

Kind = Literal["bios", "uefi"]

ANSWER = 42
# isa-debug-exit turns the byte written to its port into the exit code (byte << 1) | 1.
EXIT = ANSWER << 1 | 1
PORT = 0x501

SECTOR = 512
PAGE = 0x1000
PROGRAM = "probe"
_NEGOTIATE = b'{"execute": "qmp_capabilities"}\n'
_STOPPED = b'"event": "STOP"'
"""What QEMU tells when it stops a processor that KVM gave back ("KVM internal error"); it would not end then."""


def bios_program() -> bytes:
    """Return a network boot program (PXE 2.1, 3.5.5: real mode, 0:7C00) that writes ANSWER to PORT and halts."""
    code = bytes((0xBA, PORT & 0xFF, PORT >> 8))  # mov dx, PORT
    return (code + _WRITE_AND_HALT).ljust(SECTOR, b"\0")


def uefi_program() -> bytes:
    """Return the same as an EFI application for x86-64: PE32+ with one section (PE format; UEFI 2.10, 2.1.1)."""
    code = bytes((0x66, 0xBA, PORT & 0xFF, PORT >> 8)) + _WRITE_AND_HALT  # mov dx, PORT
    directories = (
        6  # as many as EDK2's loader looks at: import, export, resource, exception, security, relocation
    )
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, SECTOR, 0, 0, PAGE, PAGE)
    optional += struct.pack("<QII6HIIIIHH", PAGE, PAGE, SECTOR, *(0,) * 6, 0, 2 * PAGE, SECTOR, 0, 10, 0)
    optional += struct.pack("<QQQQII", 0, 0, 0, 0, 0, directories) + bytes(8 * directories)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    file = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0x22)
    section = struct.pack("<8s6IHHI", b".text", SECTOR, PAGE, SECTOR, SECTOR, 0, 0, 0, 0, 0x60000020)
    headers = dos + b"PE\0\0" + file + optional + section
    return headers.ljust(SECTOR, b"\0") + code.ljust(SECTOR, b"\0")


_WRITE_AND_HALT = bytes((0xB0, ANSWER, 0xEE, 0xF4, 0xEB, 0xFD))
"""mov al, ANSWER; out dx, al; hlt; jmp to the hlt"""


def argv(accel: Accel, folder: Path, ovmf: Ovmf | None) -> tuple[str, ...]:
    """Return the command that boots PROGRAM of `folder`: by `ovmf`, or without one by SeaBIOS and iPXE.

    QEMU itself answers DHCP and TFTP, and lets nothing out (`restrict`).
    """
    rom = ",romfile=" if ovmf else ""
    return (
        QEMU,
        # The machine, the processor and the card of the rack: where a plainer one boots, these may fail.
        *("-machine", "q35,graphics=off", *ACCEL_OPTIONS[accel], "-m", "256M"),
        *("-no-user-config", "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot"),
        *(_flash(folder, ovmf) if ovmf else ()),
        *("-netdev", f"user,id=net0,restrict=on,ipv6=off,tftp={folder},bootfile={PROGRAM}"),
        *("-device", f"virtio-net-pci,netdev=net0,bootindex=1{rom}"),
        *("-device", f"isa-debug-exit,iobase={PORT:#x},iosize=0x01"),
        *("-qmp", "stdio"),
    )


def _flash(folder: Path, ovmf: Ovmf) -> tuple[str, ...]:
    flash = "if=pflash,format=raw"
    return (
        *("-drive", f"{flash},unit=0,readonly=on,file={ovmf.code}"),
        *("-drive", f"{flash},unit=1,file={folder / ovmf.variables.name}"),
        *("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"),
    )


def boots(accel: Accel, ovmf: Ovmf | None, timeout_seconds: float) -> bool:
    """Return whether a machine boots from the network with `accel`; not if that takes longer than the timeout.

    `ovmf` is its firmware; None stands for SeaBIOS.
    """
    with tempfile.TemporaryDirectory(prefix="firstlight-probe-") as name:
        folder = Path(name)
        (folder / PROGRAM).write_bytes(uefi_program() if ovmf else bios_program())
        if ovmf:
            shutil.copyfile(ovmf.variables, folder / ovmf.variables.name)
        return _ends_well(argv(accel, folder, ovmf), timeout_seconds)


def _ends_well(command: tuple[str, ...], timeout_seconds: float) -> bool:
    with subprocess.Popen(
        command,
        bufsize=0,  # else closing its standard input fails once more where it ended before it read that
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as machine:
        commands, answers = cast("IO[bytes]", machine.stdin), cast("IO[bytes]", machine.stdout)
        timer = threading.Timer(timeout_seconds, machine.kill)
        timer.start()
        try:
            commands.write(_NEGOTIATE)  # before it, QEMU tells of no events
            for line in answers:
                if _STOPPED in line:
                    return False
            return machine.wait() == EXIT
        except BrokenPipeError:
            return False  # it ended at once: a QEMU that cannot do this at all
        finally:
            timer.cancel()
            machine.kill()
