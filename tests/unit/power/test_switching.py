"""Machines are switched side by side: each ends in time, whatever its driver does, and leaves nothing running."""

import errno
import json
import logging
import os
import socket
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from bootstrap import switching
from bootstrap.config import dump, parse_dump
from bootstrap.errors import PowerError
from bootstrap.lab import namespace, network
from bootstrap.power import Deadline, PowerState, Target
from bootstrap.processes import is_gone, wait_until
from bootstrap.switching import attempt, driver_of, switch
from tests.power_targets import secret, target_of


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
    state, error, _ = attempt(target_of(command(), tmp_path), "on", Deadline.after(5))

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


SUBNETS = [{"subnet": "10.8.0.0/24"}, {"subnet": "10.9.0.0/16"}]


@pytest.mark.parametrize(
    ("broadcast", "address", "places"),
    [
        (None, "10.77.0.101", ["10.77.0.255"]),
        (None, "10.9.3.4", ["10.9.255.255"]),
        (None, None, ["10.77.0.255", "10.8.0.255", "10.9.255.255"]),
        ("192.0.2.255", "10.9.3.4", ["192.0.2.255"]),
    ],
)
def test_wake_on_lan_goes_to_the_network_of_the_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broadcast: str | None,
    address: str | None,
    places: list[str],
) -> None:
    """Behind a router it is that network's broadcast address; a machine of unknown address may be in any."""
    target = target_of({"driver": "wake-on-lan", "broadcast": broadcast}, tmp_path)
    tree = json.loads(dump(target.cluster))
    tree["appliance"]["dhcp"]["subnets"] = SUBNETS
    mine = target.machine.model_copy(update={"address": IPv4Address(address) if address else None})
    target = replace(target, cluster=parse_dump(json.dumps(tree).encode()), machine=mine)
    sent: list[tuple[str, int]] = []
    monkeypatch.setattr(socket.socket, "sendto", lambda _, __, place: sent.append(place))

    driver_of(target, Deadline.after(1)).on()

    assert sent == [(place, 9) for place in places for _ in range(3)]


def test_wake_on_lan_names_each_network_that_it_does_not_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "sendto", unreachable)
    state, error, _ = attempt(target_of({"driver": "wake-on-lan"}, tmp_path), "on", Deadline.after(1))

    assert state == "unknown"
    assert "10.77.0.255: Network is unreachable; check power.broadcast" in error


def test_wake_on_lan_that_went_out_somewhere_is_done_and_says_where_it_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without an address may be in any network, also in one that is not reached today."""
    target = target_of({"driver": "wake-on-lan"}, tmp_path)
    tree = json.loads(dump(target.cluster))
    tree["appliance"]["dhcp"]["subnets"] = SUBNETS
    mine = target.machine.model_copy(update={"address": None})
    target = replace(target, cluster=parse_dump(json.dumps(tree).encode()), machine=mine)

    def one_is_away(_: object, __: bytes, place: tuple[str, int]) -> None:
        if place[0] == "10.8.0.255":
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "sendto", one_is_away)
    (outcome,) = switch([target], "on")

    assert (outcome.state, outcome.error) == (PowerState.UNKNOWN, "")
    assert outcome.remark == (
        "w1: the magic packet went out, but not to 10.8.0.255: Network is unreachable; if it does not wake up, "
        "write its address or power.broadcast"
    )
    assert outcome.plain()["remark"] == outcome.remark


def lab_target(base: Path) -> Target:
    """Return a machine of a lab whose BMC is the lab's."""
    secret(base, "pw", "pw")
    power = {"driver": "ipmi", "address": "10.99.0.1", "user": "u", "passwordFile": "pw", "cipherSuite": 3}
    target = target_of(power, base)
    assert target.cluster.lab is not None
    lab = target.cluster.lab.model_copy(update={"bmc": "ipmi"})
    return replace(target, cluster=target.cluster.model_copy(update={"lab": lab}))


def test_a_bmc_in_a_lab_that_is_down_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "NAMESPACES", tmp_path)

    assert attempt(lab_target(tmp_path), "status", Deadline.after(1))[1] == (
        "w1: its BMC is in the lab, which is down (lab up builds it)"
    )


def test_a_bmc_in_the_lab_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(namespace, "enter", refused)

    assert (
        "cannot enter the lab, where its BMC is: Operation not permitted; run this with sudo"
        in (attempt(lab_target(tmp_path), "status", Deadline.after(1))[1])
    )


def test_a_real_bmc_is_not_looked_for_in_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[Path] = []
    monkeypatch.setattr(namespace, "enter", entered.append)

    def unbuilt(target: Target, _: Deadline) -> None:
        raise PowerError(f"{target.name}: nothing is sent by a unit test")

    monkeypatch.setattr(switching, "driver_of", unbuilt)
    target = lab_target(tmp_path)
    real = replace(target, machine=target.machine.model_copy(update={"name": "real"}))

    attempt(real, "status", Deadline.after(1))
    assert entered == []

    attempt(target, "status", Deadline.after(1))
    assert [path.name for path in entered] == ["fl-lab"]


def test_the_lab_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert switch([target_of({"driver": "lab"}, tmp_path)], "status")[0].error == (
        "w1: driver lab needs root; run this with sudo"
    )
