from pathlib import Path

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import accel


def test_boot_sector_is_one_sector_with_the_signature() -> None:
    sector = accel.boot_sector()

    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"


def test_probe_boots_the_processor_that_machines_get() -> None:
    command = accel.probe_argv("kvm", Path("/s"))

    assert command[command.index("-cpu") + 1] == "host"


def test_tcg_needs_no_probe(tmp_path: Path) -> None:
    assert accel.choose("tcg", tmp_path / "accel") == "tcg"
    assert not (tmp_path / "accel").exists()


@pytest.mark.parametrize("verdict", ["kvm", "tcg"])
def test_verdict_of_this_boot_is_believed(tmp_path: Path, verdict: str) -> None:
    kept = tmp_path / "accel"
    kept.write_text(f"{verdict} {accel.BOOT_ID.read_text().strip()}\n")

    assert accel.choose("auto", kept) == verdict


@pytest.mark.parametrize("boots", [True, False])
def test_verdict_of_an_earlier_boot_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, boots: bool
) -> None:
    kept = tmp_path / "accel"
    kept.write_text(f"{'tcg' if boots else 'kvm'} an-earlier-boot\n")
    monkeypatch.setattr(accel, "DEVICE", tmp_path)
    monkeypatch.setattr(accel, "boots_with", lambda kind: kind == "kvm" and boots)

    assert accel.choose("auto", kept) == ("kvm" if boots else "tcg")
    assert kept.read_text().split()[1] == accel.BOOT_ID.read_text().strip()


def test_without_a_device_kvm_is_not_even_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "DEVICE", tmp_path / "no-kvm")

    assert accel.choose("auto", tmp_path / "accel") == "tcg"


def test_demanded_kvm_that_does_not_work_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    kept = tmp_path / "accel"
    kept.write_text(f"tcg {accel.BOOT_ID.read_text().strip()}\n")

    with pytest.raises(LabError, match=r"write lab\.accel: auto"):
        accel.choose("kvm", kept)
