"""Finds out whether KVM works here, by booting with it: /dev/kvm may exist and still be unusable."""

import subprocess
import tempfile
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab.machine import ACCEL_OPTIONS, QEMU, Accel

PROBE_SECONDS = 5.0  # a working KVM needs a third of a second
PROBE_ANSWER = 42
# isa-debug-exit turns the byte written to its port into the exit code (byte << 1) | 1.
PROBE_EXIT = PROBE_ANSWER << 1 | 1
PROBE_PORT = 0x501
SECTOR = 512

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DEVICE = Path("/dev/kvm")


def boot_sector() -> bytes:
    """Return a boot sector that writes PROBE_ANSWER to PROBE_PORT and halts."""
    code = bytes((0xBA, PROBE_PORT & 0xFF, PROBE_PORT >> 8))  # mov dx, PROBE_PORT
    code += bytes((0xB0, PROBE_ANSWER))  # mov al, PROBE_ANSWER
    code += bytes((0xEE, 0xF4, 0xEB, 0xFD))  # out dx, al; hlt; jmp to the hlt
    return code.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


def probe_argv(accel: Accel, sector: Path) -> tuple[str, ...]:
    """Return the command that boots `sector` (a file) and ends with PROBE_EXIT if `accel` works."""
    return (
        QEMU,
        # The same processor as the rack's machines: `-cpu host` fails where a plainer one still boots.
        *ACCEL_OPTIONS[accel],
        *("-machine", "pc", "-m", "64M"),
        *("-no-user-config", "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot"),
        *("-drive", f"if=ide,format=raw,snapshot=on,file={sector}"),
        *("-device", f"isa-debug-exit,iobase={PROBE_PORT:#x},iosize=0x01"),
    )


def boots_with(accel: Accel, timeout_seconds: float = PROBE_SECONDS) -> bool:
    """Return whether a machine boots with `accel`; one that takes longer than the timeout does not."""
    with tempfile.TemporaryDirectory(prefix="firstlight-probe-") as folder:
        sector = Path(folder) / "sector"
        sector.write_bytes(boot_sector())
        try:
            done = subprocess.run(
                probe_argv(accel, sector),
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == PROBE_EXIT


def choose(wanted: str, verdict_file: Path) -> Accel:
    """Return the accelerator for `wanted` (auto, tcg, kvm); the verdict holds until this computer reboots.

    Raises:
        LabError: KVM is demanded and does not work.
    """
    if wanted == "tcg":
        return "tcg"
    works = _kvm_works(verdict_file)
    if wanted == "kvm" and not works:
        remedy = "load kvm_intel or kvm_amd, allow nested virtualization, or write lab.accel: auto"
        raise LabError(f"lab.accel is kvm, but a probe machine did not boot with {DEVICE}: {remedy}")
    return "kvm" if works else "tcg"


def _kvm_works(verdict_file: Path) -> bool:
    boot = BOOT_ID.read_text().strip()
    if verdict_file.is_file():
        verdict, _, when = verdict_file.read_text().strip().partition(" ")
        if when == boot:
            return verdict == "kvm"
    works = DEVICE.exists() and boots_with("kvm")
    verdict_file.write_text(f"{'kvm' if works else 'tcg'} {boot}\n")
    return works
