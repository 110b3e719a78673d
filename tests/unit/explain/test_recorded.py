"""Diagnoses of what was really recorded (data/: FIRSTLIGHT_RECORD and tests/system/test_explain.py)."""

import pytest

from bootstrap.explain.breaker import same_boots
from bootstrap.explain.diagnosis import diagnose
from tests.unit.explain.seen import ABOUT, recording


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("w1", "tftp-blocked"),
        ("w2", "http-blocked"),
        ("w3", "loader-does-not-start"),
        ("w5", "ignition-refused"),
        ("w6", "disk-missing"),
    ],
)
def test_each_seeded_failure_is_named(name: str, rule: str) -> None:
    seen = recording(name)

    assert rule == diagnose(ABOUT, seen.until(seen.at), seen.at).name


def test_a_kernel_that_is_gone_is_named_while_the_rescue_page_is_shown() -> None:
    seen = recording("w4")
    page = next(event for event in seen.events if event.decision == "rescue")
    before = [event for event in seen.events if event.time < page.time]

    found = diagnose(ABOUT, seen.until(page.time), page.time)

    assert "kernel-refused" == found.name
    assert "404" in found.cause
    assert 3 == same_boots(before)


def test_uefi_that_goes_on_to_http_boot_is_told_by_what_pxe_did() -> None:
    """OVMF tries HTTP boot, with architecture 16, when PXE brought it nothing of use: that is not another boot."""
    seen = recording("w3")
    texts = [step.text for step in seen.until(seen.at)]

    found = diagnose(ABOUT, seen.until(seen.at), seen.at)

    assert any("HTTPClient:Arch:00016" in text for text in texts)
    assert found.cause.startswith("snponly.efi was sent to the end")
    assert "(arch 7, efi64)" in found.cause


def test_the_size_that_uefi_asks_for_first_is_no_loader() -> None:
    """OVMF sends HEAD, then GET; only the second brings the loader."""
    steps = [step for step in recording("w3").until(recording("w3").at) if "HTTP loader" in step.text]

    assert ["/loader/ipxe-x86_64.efi: 200 (HEAD)", "/loader/ipxe-x86_64.efi: 200"] == [
        step.text.removeprefix("HTTP loader ") for step in steps
    ]
    assert [False, True] == ["loader-sent" in step.marks for step in steps]
