"""The same questions to every power driver: a new file is asked before its author writes a test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from bootstrap import power, rooms
from bootstrap.errors import PowerError
from bootstrap.model.machine import Power
from bootstrap.power import Deadline, PowerDriver, PowerState
from bootstrap.switching import attempt, driver_of
from tests.contract.power_likenesses import LIKENESSES, Ipmi, Likeness
from tests.power_questions import QUESTIONS, Act, Peer
from tests.power_targets import target_of

DRIVERS = rooms.names(power)
MODELS = get_args(get_args(Power)[0])


@pytest.fixture(name="peer")
def fixture_peer(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Likeness]:
    monkeypatch.setattr(power, "POLL_SECONDS", 0.01)
    peer = LIKENESSES[request.param](tmp_path, monkeypatch)
    with peer.serving():
        yield peer


def test_every_driver_has_its_keys_in_the_configuration_and_its_likeness() -> None:
    named = [get_args(model.model_fields["driver"].annotation)[0] for model in MODELS]

    assert sorted(named) == sorted(DRIVERS)
    assert sorted(LIKENESSES) == sorted(DRIVERS)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
@pytest.mark.parametrize("peer", DRIVERS, indirect=True)
def test_every_driver_does_what_all_do(peer: Likeness, question: Callable[[Peer, Act], None]) -> None:
    target = target_of(peer.power, peer.base)

    question(peer, lambda action: attempt(target, action, Deadline.after(20))[:2])


@pytest.mark.parametrize("peer", DRIVERS, indirect=True)
def test_every_driver_gives_up_when_its_time_is_over(peer: Likeness) -> None:
    """A machine that stays as it is, whatever it is told, is an error and no endless wait."""
    driver = driver_of(target_of(peer.power, peer.base), Deadline.after(0.05))
    stuck: PowerState = PowerState.OFF
    driver.state = lambda: stuck  # type: ignore[method-assign]  # the machine does not obey

    with pytest.raises(PowerError, match=r"w1: told to switch on and still off; look at the machine"):
        driver.until(PowerState.ON)


@pytest.mark.parametrize("peer", DRIVERS, indirect=True)
def test_every_driver_says_nothing_before_it_is_asked(peer: Likeness) -> None:
    driver = driver_of(target_of(peer.power, peer.base), Deadline.after(1))

    assert isinstance(driver, PowerDriver)
    assert type(driver).__doc__
    assert peer.orders() == 0


@pytest.mark.parametrize("peer", ["ipmi", "redfish", "pdu", "webhook"], indirect=True)
def test_every_driver_with_a_secret_refuses_one_that_others_can_read(peer: Likeness) -> None:
    target = target_of(peer.power, peer.base)
    for file in peer.base.iterdir():
        file.chmod(0o640)

    for action in ("status", "on"):
        state, error, _ = attempt(target, action, Deadline.after(5))

        assert state == "unknown"
        assert "other users can read" in error
        assert "; chmod 600 " in error
    assert peer.orders() == 0


@pytest.mark.parametrize("peer", ["ipmi", "redfish", "pdu", "webhook"], indirect=True)
def test_every_driver_with_a_secret_says_which_file_is_missing(peer: Likeness) -> None:
    target = target_of(peer.power, peer.base)
    for file in peer.base.iterdir():
        file.unlink()

    assert "No such file or directory; write it there" in attempt(target, "status", Deadline.after(5))[1]


@pytest.mark.parametrize("peer", ["ipmi", "redfish", "pdu", "webhook"], indirect=True)
def test_every_driver_refuses_a_secret_that_is_no_text_and_does_not_show_it(peer: Likeness) -> None:
    target = target_of(peer.power, peer.base)
    for file in peer.base.iterdir():
        file.write_bytes(b"s\xffcret\n")

    error = attempt(target, "on", Deadline.after(5))[1]

    assert error == "w1: its user or secret holds letters that cannot be sent; write ASCII alone"
    assert peer.orders() == 0


@pytest.mark.parametrize("peer", ["ipmi"], indirect=True)
def test_ipmi_leaves_no_session_open(peer: Ipmi) -> None:
    for action in ("status", "cycle", "netboot"):
        attempt(target_of(peer.power, peer.base), action, Deadline.after(5))

        assert peer.sessions == 0
