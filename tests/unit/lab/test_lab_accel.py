from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import accel, probe
from bootstrap.lab.machine import Accel, Ovmf

OVMF = Ovmf(code=Path("/f/OVMF_CODE_4M.fd"), variables=Path("/f/OVMF_VARS_4M.fd"))
BOOT = accel.BOOT_ID.read_text().strip()

Tries = list[str]


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[set[str]], Tries]:
    """Have a /dev/kvm with which the kinds of firmware given boot; return what was tried."""

    def with_working(working: set[str]) -> Tries:
        tried: Tries = []

        def boots(kind: Accel, ovmf: Ovmf | None, timeout_seconds: float) -> bool:
            assert kind == "kvm"
            assert timeout_seconds == accel.PROBE_SECONDS
            tried.append("uefi" if ovmf else "bios")
            return tried[-1] in working

        monkeypatch.setattr(accel, "DEVICE", tmp_path)
        monkeypatch.setattr(probe, "boots", boots)
        return tried

    return with_working


def test_tcg_needs_no_probe(tmp_path: Path) -> None:
    assert accel.choose("tcg", tmp_path / "accel", {None}) == "tcg"
    assert not (tmp_path / "accel").exists()


@pytest.mark.parametrize("verdict", ["kvm", "tcg"])
def test_verdict_of_this_boot_is_believed(tmp_path: Path, verdict: str) -> None:
    kept = tmp_path / "accel"
    kept.write_text(f"{BOOT} bios={verdict}\n")

    assert accel.choose("auto", kept, {None}) == verdict


@pytest.mark.parametrize("boots", [True, False])
@pytest.mark.parametrize(
    "earlier", ["an-earlier-boot bios={}", "{} " + BOOT]
)  # the other form is of former releases
def test_verdict_of_an_earlier_boot_is_asked_again(
    tmp_path: Path, tries: Callable[[set[str]], Tries], earlier: str, *, boots: bool
) -> None:
    kept = tmp_path / "accel"
    kept.write_text(earlier.format("tcg" if boots else "kvm") + "\n")
    tried = tries({"bios"} if boots else set())

    assert accel.choose("auto", kept, {None}) == ("kvm" if boots else "tcg")
    assert accel.choose("auto", kept, {None}) == ("kvm" if boots else "tcg")
    assert tried == ["bios"]


def test_one_firmware_that_does_not_boot_with_kvm_leaves_the_whole_rack_to_tcg(
    tmp_path: Path, tries: Callable[[set[str]], Tries]
) -> None:
    tried = tries({"bios"})
    kept = tmp_path / "accel"

    assert accel.choose("auto", kept, {None}) == "kvm"
    assert accel.choose("auto", kept, {None, OVMF}) == "tcg"
    assert accel.choose("auto", kept, {None}) == "kvm"
    assert tried == ["bios", "uefi"]


def test_without_a_device_kvm_is_not_even_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "DEVICE", tmp_path / "no-kvm")

    assert accel.choose("auto", tmp_path / "accel", {None, OVMF}) == "tcg"


def test_a_rack_without_machines_probes_nothing(tmp_path: Path, tries: Callable[[set[str]], Tries]) -> None:
    tried = tries(set())

    assert accel.choose("auto", tmp_path / "accel", set()) == "tcg"
    assert tried == []


def test_demanded_kvm_that_does_not_work_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    kept = tmp_path / "accel"
    kept.write_text(f"{BOOT} uefi=tcg\n")

    with pytest.raises(LabError, match=r"probe machine \(uefi\).*write lab\.accel: auto"):
        accel.choose("kvm", kept, {OVMF})
