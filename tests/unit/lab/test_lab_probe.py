import os
import struct
import time
from pathlib import Path

import pytest

from bootstrap.lab import probe
from bootstrap.lab.machine import Ovmf

OVMF = Ovmf(code=Path("/f/OVMF_CODE_4M.fd"), variables=Path("/f/OVMF_VARS_4M.fd"))


def qemu(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program in the place of QEMU."""
    program = folder / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(probe, "QEMU", str(program))


def test_the_program_for_bios_is_one_sector() -> None:
    assert len(probe.bios_program()) == 512


def test_the_program_for_uefi_is_a_pe_file_whose_parts_lie_where_it_says() -> None:
    program = probe.uefi_program()
    header = struct.unpack_from("<I", program, 0x3C)[0]
    machine, sections, *_, optional_size, _ = struct.unpack_from("<HHIIIHH", program, header + 4)
    section = header + 24 + optional_size
    size, address, raw_size, raw_at = struct.unpack_from("<4I", program, section + 8)

    assert program[header : header + 4] == b"PE\0\0"
    assert (machine, sections) == (0x8664, 1)
    assert program[section : section + 5] == b".text"
    assert struct.unpack_from("<I", program, header + 24 + 16)[0] == address  # where it begins to run
    assert (size, raw_at + raw_size) == (raw_size, len(program))
    assert program[raw_at] == 0x66


def test_probe_boots_the_processor_that_machines_get() -> None:
    command = probe.argv("kvm", Path("/s"), None)

    assert command[command.index("-cpu") + 1] == "host"


def test_only_uefi_boots_without_the_rom_of_the_card() -> None:
    assert not any("romfile" in word or "pflash" in word for word in probe.argv("kvm", Path("/s"), None))
    assert "virtio-net-pci,netdev=net0,bootindex=1,romfile=" in probe.argv("kvm", Path("/s"), OVMF)


def test_nothing_of_a_probe_leaves_this_computer() -> None:
    assert any("restrict=on" in word for word in probe.argv("kvm", Path("/s"), OVMF))


@pytest.mark.parametrize(
    ("script", "works"), [("exit 85", True), ("exit 0", False), ("kill -ABRT $$", False)]
)
def test_only_the_answer_of_the_program_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, *, works: bool
) -> None:
    qemu(tmp_path, monkeypatch, f"read line; {script}")

    assert probe.boots("kvm", None, 20) is works


@pytest.mark.parametrize("told", ['{"timestamp": {"seconds": 1}, "event": "STOP"}', ""])
def test_a_machine_that_stands_still_does_not_work_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    pid = tmp_path / "pid"
    qemu(tmp_path, monkeypatch, f"read line; echo $$ > {pid}; echo '{told}'; exec sleep 600")
    began = time.monotonic()

    assert not probe.boots("kvm", None, 60 if told else 2)
    assert time.monotonic() - began < 50
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_qemu_that_ends_at_once_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu(tmp_path, monkeypatch, "exit 1")

    assert not probe.boots("kvm", None, 20)
