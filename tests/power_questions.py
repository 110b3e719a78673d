"""What every way to switch a machine is asked, by whoever has a peer for it: a real one, or a likeness."""

from collections.abc import Callable
from typing import Any, Protocol

from bootstrap.power import PowerState

ON, OFF, STATE, NETBOOT = "on", "off", "state", "netboot"
Act = Callable[[str], tuple[str, str]]
"""Does an action to the peer's machine, and returns its state and the error or nothing."""


class Peer(Protocol):
    """The other end of a driver's wire, with one machine on it."""

    can: frozenset[str]
    """What this way can do: ON, OFF, STATE, NETBOOT."""

    @property
    def power(self) -> dict[str, Any]:
        """Return the machine's `power:` in the configuration."""

    def put(self, *, on: bool) -> None:
        """Switch the machine behind the driver's back."""

    def is_on(self) -> bool:
        """Return whether the machine is on, not by the driver."""

    def orders(self) -> int:
        """Return how many orders to switch on or off have come since the last `put`."""

    def netboots(self) -> bool:
        """Return whether the machine's next boot is from the network."""


def the_state_is_told(peer: Peer, act: Act) -> None:
    for on in (True, False):
        peer.put(on=on)
        state, error = act("status")

        assert error == ""
        assert state == (_state(peer, on=on) if STATE in peer.can else PowerState.UNKNOWN)
        assert peer.orders() == 0


def on_switches_on(peer: Peer, act: Act) -> None:
    peer.put(on=False)
    outcome = act("on")

    if ON not in peer.can:
        _refused(outcome)
        assert not peer.is_on()
        return
    _done(peer, outcome, on=True)
    assert peer.orders() == 1


def on_leaves_what_is_on(peer: Peer, act: Act) -> None:
    peer.put(on=True)
    outcome = act("on")

    if ON not in peer.can:
        _refused(outcome)
        return
    _done(peer, outcome, on=True)
    assert peer.orders() == 0 or STATE not in peer.can


def off_switches_off(peer: Peer, act: Act) -> None:
    peer.put(on=True)
    outcome = act("off")

    if OFF not in peer.can:
        _refused(outcome)
        assert peer.is_on()
        return
    _done(peer, outcome, on=False)
    assert peer.orders() == 1


def off_leaves_what_is_off(peer: Peer, act: Act) -> None:
    peer.put(on=False)
    outcome = act("off")

    if OFF not in peer.can:
        _refused(outcome)
        return
    _done(peer, outcome, on=False)
    assert peer.orders() == 0 or STATE not in peer.can


def cycle_of_what_is_on_goes_through_off(peer: Peer, act: Act) -> None:
    peer.put(on=True)
    outcome = act("cycle")

    if OFF not in peer.can:
        _refused(outcome)
        assert peer.is_on()
        return
    _done(peer, outcome, on=True)
    assert peer.orders() == 2


def cycle_of_what_is_off_switches_on(peer: Peer, act: Act) -> None:
    peer.put(on=False)
    outcome = act("cycle")

    if OFF not in peer.can:
        _refused(outcome)
        return
    _done(peer, outcome, on=True)
    assert peer.orders() == 1 or STATE not in peer.can


def netboot_is_chosen_or_refused(peer: Peer, act: Act) -> None:
    peer.put(on=False)
    outcome = act("netboot")

    assert peer.orders() == 0
    if NETBOOT not in peer.can:
        _refused(outcome)
        return
    assert outcome[1] == ""
    assert peer.netboots()


QUESTIONS = (
    the_state_is_told,
    on_switches_on,
    on_leaves_what_is_on,
    off_switches_off,
    off_leaves_what_is_off,
    cycle_of_what_is_on_goes_through_off,
    cycle_of_what_is_off_switches_on,
    netboot_is_chosen_or_refused,
)


def one_clear_line(error: str, *words: str) -> None:
    """Check that an error names the machine, holds `words`, says what to do, and is one line."""
    assert error.startswith("w1: ")
    assert "\n" not in error
    assert "Traceback" not in error
    assert any(
        verb in error for verb in ("; check ", "; write ", "; look ", "; see ", "; try ", "; put ", "; let ")
    )
    for word in words:
        assert word in error


def _state(peer: Peer, *, on: bool) -> PowerState:
    if STATE not in peer.can:
        return PowerState.UNKNOWN
    return PowerState.ON if on else PowerState.OFF


def _done(peer: Peer, outcome: tuple[str, str], *, on: bool) -> None:
    assert outcome == (_state(peer, on=on), "")
    assert peer.is_on() is on


def _refused(outcome: tuple[str, str]) -> None:
    state, error = outcome
    assert state in set(PowerState)
    assert error.startswith("w1: ")
    assert "; " in error
