"""The story of a machine over HTTP, and the rescue page in place of a boot that comes to nothing."""

from typing import Any

import pytest

from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, W3
from web.limits import SIGHTING_BURST, UNKNOWN_BURST

BOOT_SECONDS = 60.0
PXE = {"X-Firstlight-Client": "firstlight:pxe"}


def boot_often(rack: Rack, times: int = 3) -> None:
    for _ in range(times):
        assert "kernel http" in rack.boot()
        rack.clock.forward(BOOT_SECONDS)


def told(rack: Rack, name: str = "w1") -> dict[str, Any]:
    answer = rack.operator("GET", f"/v1/machines/{name}/story")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json or {}
    return found


def sight(rack: Rack, *sightings: dict[str, Any]) -> int:
    answer = rack.ask("machine", "POST", "/v1/pxe/events", headers=PXE, json=list(sightings))
    accepted: int = (answer.json or {})["accepted"]
    return accepted


def test_after_three_boots_in_vain_the_console_says_why_and_waits(rack: Rack) -> None:
    boot_often(rack)

    page = rack.boot()

    assert "kernel http" not in page
    assert (
        "echo firstlight: w1 is in a boot loop: the same boot 3 times and no progress - machine explain w1"
        in page
    )
    assert "echo firstlight: cause, it was told to install" in page.replace("cause:", "cause,")
    assert "echo firstlight: to do:" in page
    assert "iPXE script given: install" in page
    assert page.count("sleep") == 1


def test_status_has_an_alarm_and_the_state_stays(rack: Rack) -> None:
    boot_often(rack)
    rack.boot()

    machine = rack.machine()

    assert (True, "armed", 0) == (machine["isLooping"], machine["state"], machine["attempts"])
    assert "boot loop" in machine["message"]
    events = rack.site.ledger.events_of(W1)
    assert ("network-boot", "rescue") == (events[-1].what, events[-1].decision)


def test_the_page_that_is_asked_for_again_and_again_fills_no_log(rack: Rack) -> None:
    boot_often(rack)
    rack.boot()
    before = len(rack.site.ledger.events_of(W1))
    for _ in range(10):
        rack.clock.forward(30)
        assert "boot loop" in rack.boot()

    assert before == len(rack.site.ledger.events_of(W1))


def test_arm_lets_it_go(rack: Rack) -> None:
    boot_often(rack)
    rack.boot()

    rack.operator("POST", "/v1/machines/w1/arm")

    assert rack.machine()["isLooping"] is False
    assert "kernel http" in rack.boot()


@pytest.mark.parametrize("progress", ["begin", "complete", "failed"])
def test_progress_lets_it_go(rack: Rack, progress: str) -> None:
    """A machine whose loop was noted while its installer still ran."""
    boot_often(rack)
    rack.boot()

    if progress == "begin":
        assert rack.begin().status_code == 200
    else:
        rack.tell(progress)

    assert rack.machine()["isLooping"] is False


def test_the_breaker_grants_nothing(rack: Rack) -> None:
    """Held or tried again, a machine has the write passes that it had."""
    assert rack.begin().status_code == 200
    boot_often(rack)
    assert "boot loop" in rack.boot()
    for _ in range(5):
        rack.clock.forward(700)
        rack.boot()

    assert 1 == rack.record().attempts
    statuses = [rack.begin(nonce=f"n{number}").status_code for number in range(3)]
    assert [200, 200, 409] == statuses


def test_an_installed_machine_restarts_as_often_as_it_likes(rack: Rack) -> None:
    rack.tell("complete")
    for _ in range(30):
        rack.clock.forward(BOOT_SECONDS)
        assert "looking for its disk" in rack.boot()

    assert rack.machine()["isLooping"] is False


def test_a_machine_in_a_loop_boots_while_the_store_cannot_write(rack: Rack) -> None:
    boot_often(rack)
    rack.store.writes_fail = True

    assert "#!ipxe" in rack.boot()


def test_the_story_has_the_packets_and_the_diagnosis(rack: Rack) -> None:
    vendor = "PXEClient:Arch:00007:UNDI:003016"
    rack.clock.forward(10)
    at = rack.clock().timestamp() - 5
    sight(
        rack,
        {"mac": W1, "kind": "discover", "detail": vendor, "arch": 7, "at": at},
        {"mac": W1, "kind": "offer", "detail": "10.77.0.101, boot file snponly.efi", "arch": 7, "at": at},
        {"mac": W1, "kind": "request", "detail": f"10.77.0.101, {vendor}", "arch": 7, "at": at + 1},
        {
            "mac": W1,
            "kind": "ack",
            "detail": "10.77.0.101, boot file snponly.efi, w1",
            "arch": 7,
            "at": at + 1,
        },
    )
    rack.clock.forward(30)

    story = told(rack)

    steps = story["boots"][-1]
    assert "2026-01-01T00:00:05.000Z" in [step["time"] for step in steps]
    assert f"DHCP DISCOVER {vendor} (arch 7)" in [step["text"] for step in steps]
    assert ("tftp-blocked", False) == (story["diagnosis"]["name"], story["diagnosis"]["isWell"])


@pytest.mark.parametrize("at", [0, 1e12, None])
def test_a_time_that_makes_no_sense_is_ours(rack: Rack, at: float | None) -> None:
    sight(rack, {"mac": W1, "kind": "discover", "detail": "x"} | ({"at": at} if at is not None else {}))

    assert rack.clock() == rack.site.ledger.events_of(W1)[-1].time


def test_a_machine_that_is_not_listed_is_asked_for_by_its_mac(rack: Rack) -> None:
    sight(rack, {"mac": W3, "kind": "discover", "detail": "PXEClient:Arch:00000", "arch": 0})
    rack.clock.forward(30)

    assert "discover-unanswered" == told(rack, W3)["diagnosis"]["name"]
    assert "w1" == told(rack, W1)["name"]
    assert 404 == rack.operator("GET", "/v1/machines/nobody/story").status_code


def test_packets_under_one_name_are_bounded_and_take_nothing_from_others(rack: Rack) -> None:
    """Anyone may send packets with a listed machine's MAC: each would be a write."""
    flood = [{"mac": W1, "kind": "discover", "detail": "x"}] * 500
    strangers = [{"mac": f"02:00:00:00:{n // 256:02x}:{n % 256:02x}", "kind": "discover"} for n in range(900)]

    assert SIGHTING_BURST == sight(rack, *flood)
    assert UNKNOWN_BURST == sight(rack, *strangers)
    assert 1 == sight(rack, {"mac": W2, "kind": "discover"})
