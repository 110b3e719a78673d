"""Machines are switched side by side: each ends in time, whatever its driver does, and leaves nothing running."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bootstrap import switching
from bootstrap.power import Deadline, PowerState
from bootstrap.processes import is_gone, wait_until
from bootstrap.switching import attempt, driver_of, switch
from tests.power_targets import target_of


def command(**words: str) -> dict[str, Any]:
    programs = {"on": "true", "off": "true", **words}
    return {"driver": "command", **{name: ["/bin/sh", "-c", text] for name, text in programs.items()}}


def test_outcomes_come_in_the_order_that_was_asked_for_and_more_than_fit_at_once_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "AT_ONCE", 2)
    asked = [
        (command(status="sleep 0.3; echo on"), PowerState.ON),
        (command(status="echo off"), PowerState.OFF),
        (None, PowerState.UNKNOWN),
        (command(status="echo on"), PowerState.ON),
    ]

    outcomes = switch([target_of(power, tmp_path) for power, _ in asked], "status")

    assert [outcome.state for outcome in outcomes] == [state for _, state in asked]
    assert [outcome.error for outcome in outcomes] == [""] * 4
    assert [outcome.driver for outcome in outcomes] == ["command", "command", "manual", "command"]


def test_nothing_asked_is_nothing_done() -> None:
    assert switch([], "on") == ()


def test_a_driver_that_does_not_end_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own way to keep the time is taken from it."""
    monkeypatch.setattr(switching, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(Deadline, "left", lambda _: 60.0)
    target = target_of(command(on="echo $$ >pid; sleep 60", status="echo off"), tmp_path)

    outcome = switch([target], "on", 0.5)[0]

    assert outcome.state is PowerState.UNKNOWN
    assert outcome.error == (
        "w1: driver command came to no end in 0.5 s; check its address and cable, or give it longer with "
        "--timeout. It may have been done: power status w1."
    )
    pid = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: is_gone(pid), 10)


def test_a_program_that_does_not_end_is_told_by_its_driver_first(tmp_path: Path) -> None:
    outcome = switch([target_of(command(status="sleep 60"), tmp_path)], "status", 0.3)[0]

    assert "/bin/sh did not end in time; let it, or give it longer with --timeout" in outcome.error


def test_a_slow_machine_does_not_hold_up_the_others(tmp_path: Path) -> None:
    slow = target_of(command(status="sleep 60"), tmp_path)
    quick = target_of(command(status="date +%s.%N >asked; echo on"), tmp_path)
    began = time.time()

    assert [bool(outcome.error) for outcome in switch([slow, quick], "status", 2.0)] == [True, False]
    assert float((tmp_path / "asked").read_text()) - began < 2.0, "it was asked before the slow one ended"


def test_a_driver_that_dies_is_told(tmp_path: Path) -> None:
    outcome = switch([target_of(command(status="kill -9 $PPID"), tmp_path)], "status", 5)[0]

    assert outcome.error == "w1: driver command died; run this again"


def test_what_a_library_cannot_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise IndexError("list index out of\nrange")

    monkeypatch.setitem(switching.ACTS, "on", broken)
    state, error = attempt(target_of(command(), tmp_path), "on", Deadline.after(5))

    assert state == "unknown"
    assert error == (
        "w1: driver command got an answer that it cannot read (IndexError: list index out of range); "
        "try once more, and see the device's log"
    )


def test_what_drivers_print_and_log_reaches_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def chatty(*_: object) -> None:
        os.write(1, b"secret")
        os.write(2, b"secret")
        logging.getLogger("sushy").error("secret")

    monkeypatch.setitem(switching.ACTS, "on", chatty)
    switch([target_of(command(), tmp_path)], "on")

    assert capfd.readouterr() == ("", "")


def test_a_machine_without_a_driver_is_a_persons_work(tmp_path: Path) -> None:
    assert switch([target_of(None, tmp_path)], "cycle")[0].error == (
        "w1: no power driver; switch it off and on by hand, or write `power:` for it in the configuration"
    )


def test_ctrl_c_leaves_no_driver_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        assert wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", 10)
        raise KeyboardInterrupt

    monkeypatch.setattr(switching, "_wait_for_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        switch([target_of(command(on="echo $PPID >pid; sleep 60"), tmp_path)], "on")

    pid = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: is_gone(pid), 10)


def test_arming_netboots_where_it_can_be_chosen_and_cycles_anyway(tmp_path: Path) -> None:
    log = command(off="echo off >>log", on="echo on >>log", netboot="echo netboot >>log")
    for power in (log, {**log, "netboot": None}):
        assert switch([target_of(power, tmp_path)], "netboot-and-cycle")[0].error == ""

    assert (tmp_path / "log").read_text().split() == ["netboot", "off", "on", "off", "on"]


def test_wake_on_lan_goes_to_the_appliances_network_unless_told_otherwise(tmp_path: Path) -> None:
    driver = driver_of(target_of({"driver": "wake-on-lan"}, tmp_path), Deadline.after(1))

    assert str(driver.target.cluster.appliance.address.network.broadcast_address) == "10.77.0.255"
    assert driver.power.broadcast is None


def test_the_lab_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert switch([target_of({"driver": "lab"}, tmp_path)], "status")[0].error == (
        "w1: driver lab needs root; run this with sudo"
    )
