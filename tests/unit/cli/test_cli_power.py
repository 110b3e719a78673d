"""`power on|off|cycle|status|netboot`, `machine arm --cycle` and `machine retire --power-off`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap.cli import machines
from bootstrap.operator import Operator

Firstlight = Callable[..., Any]
GOOD = "{driver: command, on: [/bin/sh, -c, 'echo on >%s'], off: [/bin/sh, -c, 'echo off >%s'], status: [/bin/cat, %s]}"
BAD = "{driver: command, on: [/bin/false], off: [/bin/false], status: [/bin/false]}"


@pytest.fixture(name="config")
def fixture_config(tmp_path: Path, configs: Path) -> Path:
    """A rack of three machines: a good one, one whose driver fails, and one without."""
    text = (configs / "example.yaml").read_text()
    head = text[: text.index("\nmachines:")]
    rest = text[text.index("\nssh:") :]
    (tmp_path / "state").write_text("off\n")
    good = GOOD.replace("%s", "state")
    config = tmp_path / "rack.yaml"
    pool = head.partition("pools:")[2].partition("name: ")[2].split()[0].strip(",}")
    lines = [
        f'  - {{name: good, mac: "52:54:00:aa:00:01", pool: {pool}, power: {good}}}',
        f'  - {{name: bad, mac: "52:54:00:aa:00:02", pool: {pool}, power: {BAD}}}',
        f'  - {{name: alone, mac: "52:54:00:aa:00:03", pool: {pool}}}',
    ]
    config.write_text("\n".join([head, "machines:", *lines, rest]))
    return config


def test_all_done_is_0_and_told_in_a_table(firstlight: Firstlight, config: Path) -> None:
    outcome = firstlight("--config", config, "power", "on", "good")

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == ["NAME  DRIVER   POWER  RESULT", "good  command  on     done"]
    assert (config.parent / "state").read_text() == "on\n"


def test_some_done_is_3_with_a_line_for_each_that_failed(firstlight: Firstlight, config: Path) -> None:
    outcome = firstlight("--config", config, "-o", "json", "power", "cycle", "alone", "good", "bad", "good")

    assert outcome.code == 3
    alone, bad = outcome.err.splitlines()
    assert alone.startswith("alone: no power driver; switch it off and on by hand, or write `power:`")
    assert bad == "bad: /bin/false exits 1 and says: nothing; see to that program"
    assert outcome.json() == [
        {"name": "alone", "driver": "manual", "power": "unknown", "error": alone, "remark": ""},
        {"name": "good", "driver": "command", "power": "on", "error": "", "remark": ""},
        {"name": "bad", "driver": "command", "power": "unknown", "error": bad, "remark": ""},
    ]


def test_none_done_is_1(firstlight: Firstlight, config: Path) -> None:
    outcome = firstlight("--config", config, "power", "off", "bad", "alone")

    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 2
    assert [line.split()[3] for line in outcome.out.splitlines()[1:]] == ["failed", "failed"]


def test_status_shows_all_machines_also_those_without_a_driver(firstlight: Firstlight, config: Path) -> None:
    outcome = firstlight("--config", config, "power", "status")

    assert outcome.code == 3
    assert [line.split() for line in outcome.out.splitlines()[1:]] == [
        ["good", "command", "off", "done"],
        ["bad", "command", "unknown", "failed"],
        ["alone", "manual", "unknown", "done"],
    ]


def test_status_as_yaml(firstlight: Firstlight, config: Path) -> None:
    outcome = firstlight("--config", config, "-o", "yaml", "power", "status", "alone")

    assert (outcome.code, outcome.err) == (0, "")
    assert "driver: manual\n" in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("on", "god"), "there is no machine 'god'; did you mean good?"),
        (("on",), "NAME"),
        (("on", "good", "--timeout", "0"), "--timeout"),
        (("reset", "good"), "reset"),
    ],
)
def test_usage_is_2_and_nothing_is_switched(
    firstlight: Firstlight, config: Path, words: tuple[str, ...], said: str
) -> None:
    outcome = firstlight("--config", config, "power", *words)

    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.out == ""
    assert (config.parent / "state").read_text() == "off\n"


def test_a_timeout_holds_for_each(firstlight: Firstlight, config: Path) -> None:
    text = config.read_text().replace("status: [/bin/false]", "status: [/bin/sleep, '60']")
    config.write_text(text)

    outcome = firstlight("--config", config, "power", "status", "bad", "good", "--timeout", "0.5")

    assert outcome.code == 3
    assert "bad: /bin/sleep did not end in time" in outcome.err


class Appliance(Operator):
    """Writes down what is ordered."""

    def __init__(self, done: list[str]) -> None:
        super().__init__(Path("none"))
        self._done = done

    def machine(self, name: str) -> dict[str, Any]:
        return self._told(name)

    def act(self, name: str, action: str, *, recheck: bool = False) -> dict[str, Any]:
        assert not recheck
        self._done.append(f"{action} {name}")
        return self._told(name)

    def _told(self, name: str) -> dict[str, Any]:
        keys = dict.fromkeys(("pool", "message", "since", "disk", "claim", "arm", "accessUntil"))
        return {**keys, "name": name, "mac": "52:54:00:aa:00:01", "state": "armed", "message": ""}


@pytest.fixture(name="done")
def fixture_done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    monkeypatch.setattr(machines, "operator", lambda _call: Appliance(done))
    return done


def test_arm_with_cycle_switches_the_machine_after_it_was_armed(
    firstlight: Firstlight, config: Path, done: list[str]
) -> None:
    assert firstlight("--config", config, "machine", "arm", "good", "--yes", "--cycle").code == 0

    assert done == ["arm good"]
    assert (config.parent / "state").read_text() == "on\n"


def test_arm_without_cycle_switches_nothing(firstlight: Firstlight, config: Path, done: list[str]) -> None:
    assert firstlight("--config", config, "machine", "arm", "good", "--yes").code == 0

    assert done == ["arm good"]
    assert (config.parent / "state").read_text() == "off\n"


def test_arm_that_cannot_cycle_is_3(firstlight: Firstlight, config: Path, done: list[str]) -> None:
    outcome = firstlight("--config", config, "machine", "arm", "bad", "--yes", "--cycle")

    assert outcome.code == 3
    assert done == ["arm bad"]
    assert "bad: /bin/false exits 1" in outcome.err


def test_a_machine_that_is_not_in_the_configuration_is_not_even_armed(
    firstlight: Firstlight, config: Path, done: list[str]
) -> None:
    outcome = firstlight("--config", config, "machine", "arm", "other", "--yes", "--cycle")

    assert outcome.code == 2
    assert "there is no machine 'other'" in outcome.err
    assert done == []


def test_retire_with_power_off_cuts_the_power_last(
    firstlight: Firstlight, config: Path, done: list[str]
) -> None:
    (config.parent / "state").write_text("on\n")

    assert firstlight("--config", config, "machine", "retire", "good", "--yes", "--power-off").code == 0
    assert done == ["retire good"]
    assert (config.parent / "state").read_text() == "off\n"


def test_retire_that_cannot_switch_off_is_3(firstlight: Firstlight, config: Path, done: list[str]) -> None:
    assert firstlight("--config", config, "machine", "retire", "bad", "--yes", "--power-off").code == 3
    assert done == ["retire bad"]
