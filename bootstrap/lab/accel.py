"""Finds out whether KVM works here, by booting with it: /dev/kvm may exist and still be unusable."""

from collections.abc import Collection
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab import probe
from bootstrap.lab.machine import Accel, Ovmf

PROBE_SECONDS = 30.0
"""For one firmware: iPXE alone waits some seconds for somebody who presses a key."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DEVICE = Path("/dev/kvm")


def choose(wanted: str, verdict_file: Path, firmware: Collection[Ovmf | None]) -> Accel:
    """Return the accelerator for `wanted` (auto, tcg, kvm); the verdict holds until this computer reboots.

    KVM works if a machine of each `firmware` (None is SeaBIOS) boots from the network with it: there are
    computers where a boot sector runs, and the firmware of a network card or UEFI does not.

    Raises:
        LabError: KVM is demanded and does not work.
    """
    if wanted == "tcg" or not firmware:
        return "tcg"
    failed = _failed(verdict_file, firmware)
    if wanted == "kvm" and failed:
        remedy = "load kvm_intel or kvm_amd, allow nested virtualization, or write lab.accel: auto"
        raise LabError(
            f"lab.accel is kvm, but a probe machine ({failed}) did not boot with {DEVICE}: {remedy}"
        )
    return "tcg" if failed else "kvm"


def _failed(verdict_file: Path, firmware: Collection[Ovmf | None]) -> str:
    """Return the kind of firmware that does not boot with KVM, or an empty string; remember it."""
    wanted = {_kind(ovmf): ovmf for ovmf in firmware}
    boot = BOOT_ID.read_text().strip()
    known = _remembered(verdict_file, boot)
    for kind, ovmf in wanted.items():
        if kind not in known:
            known[kind] = DEVICE.exists() and probe.boots("kvm", ovmf, PROBE_SECONDS)
        if not known[kind]:
            break
    words = [f"{kind}={'kvm' if works else 'tcg'}" for kind, works in sorted(known.items())]
    verdict_file.write_text(" ".join([boot, *words]) + "\n")
    return next((kind for kind in wanted if not known.get(kind, True)), "")


def _kind(ovmf: Ovmf | None) -> probe.Kind:
    return "uefi" if ovmf else "bios"


def _remembered(verdict_file: Path, boot: str) -> dict[str, bool]:
    """Return what was found out since this computer started, by kind of firmware; nothing for another form."""
    words = verdict_file.read_text().split() if verdict_file.is_file() else []
    if words[:1] != [boot]:
        return {}
    pairs = [word.partition("=") for word in words[1:]]
    return {kind: verdict == "kvm" for kind, _, verdict in pairs}
