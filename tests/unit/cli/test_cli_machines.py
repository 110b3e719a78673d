import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap.cli import machines
from bootstrap.cli.results import emit, show, stderr, table
from bootstrap.cli.screen import Screen
from bootstrap.operator import NotRunning, Operator

Firstlight = Callable[..., Any]
W1 = {
    "name": "w1",
    "mac": "52:54:00:aa:00:01",
    "pool": "workers",
    "state": "installed",
    "disk": "virtio-w1-root 8 GiB",
    "facts": {"cpus": 2},
    "since": None,
    "message": "",
}
EVENT = {
    "seq": 1,
    "time": "2026-11-22T12:00:00Z",
    "machine": "52:54:00:aa:00:01",
    "what": "armed",
    "decision": "",
    "reason": "",
    "detail": "first seen",
}
STRANGER = {
    "mac": "02:00:00:00:00:09",
    "firstSeen": "2026-11-22T11:00:00Z",
    "said": {},
    "state": "discovered",
}


STEP = {"time": "2026-11-22T12:00:00.250Z", "text": "DHCP DISCOVER [red]x (arch 7)", "marks": []}
DIAGNOSIS = {
    "name": "tftp-blocked",
    "cause": "TFTP does not come through",
    "remedy": "let it",
    "isWell": False,
}
STORY = {"mac": "52:54:00:aa:00:01", "boots": [[STEP], [STEP]], "diagnosis": DIAGNOSIS}


class Fake(Operator):
    """An appliance with one machine, one stranger and one event."""

    def __init__(self, *found: dict[str, Any]) -> None:
        super().__init__(Path("none"))
        self.orders: list[tuple[str, str]] = []
        self._found = list(found)
        self.standing: list[dict[str, Any]] = []

    def machines(self) -> list[dict[str, Any]]:
        return self._found

    def hosts(self) -> list[dict[str, Any]]:
        return []

    def alarms(self) -> list[dict[str, Any]]:
        return self.standing

    def strangers(self) -> list[dict[str, Any]]:
        return [STRANGER]

    def machine(self, name: str) -> dict[str, Any]:
        return {**W1, "name": name}

    def events(self, after: int = 0, machine: str | None = None) -> list[dict[str, Any]]:
        if after:
            raise KeyboardInterrupt
        return [EVENT] if machine in (None, "w1") else []

    def accept(self, name: str, *, pool: str, as_name: str, resolve: bool, recheck: bool) -> dict[str, Any]:
        self.orders.append((name, f"accept {pool} {as_name} {resolve} {recheck}"))
        return {**W1, "name": as_name, "state": "armed"}

    def story(self, name: str) -> dict[str, Any]:
        return {**STORY, "name": name}

    def act(self, name: str, action: str, *, recheck: bool = False) -> dict[str, Any]:
        self.orders.append((name, f"{action} recheck" if recheck else action))
        return {**W1, "state": "armed"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake(W1)
    monkeypatch.setattr(machines, "operator", lambda _call: fake)
    monkeypatch.setattr(machines, "REFRESH_SECONDS", 0)
    return fake


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("words", [["status"], ["machine", "list"], ["machine", "show", "w1"], ["events"]])
def test_results_parse_and_have_no_trailing_blanks(firstlight: Firstlight, words: list[str]) -> None:
    shown = firstlight(*words)

    assert shown.code == 0
    assert [line for line in shown.out.splitlines() if line != line.rstrip()] == []
    assert yaml.safe_load(firstlight("-o", "yaml", *words).out) == firstlight("-o", "json", *words).json()


@pytest.mark.usefixtures("asked")
def test_machine_list_shows_strangers_and_status_does_not(firstlight: Firstlight) -> None:
    assert "02:00:00:00:00:09" in firstlight("machine", "list").out
    assert "02:00:00:00:00:09" not in firstlight("status").out


def test_status_exits_1_if_a_machine_waits_for_a_person(
    firstlight: Firstlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "operator", lambda _call: Fake(W1, {**W1, "state": "failed"}))

    assert firstlight("status").code == 1


def test_status_of_nothing_says_how_to_start(firstlight: Firstlight, configs: Path) -> None:
    done = firstlight("--config", configs / "example.yaml", "status")

    assert (done.code, done.out) == (NotRunning.exit_code, "")
    assert done.err.rstrip().endswith("start it: up")


@pytest.mark.usefixtures("asked")
def test_events_are_followed_until_ctrl_c(firstlight: Firstlight) -> None:
    done = firstlight("events", "--follow")

    assert done.code == 130
    assert done.out.splitlines()[1].split()[:3] == [EVENT["time"], EVENT["machine"], "armed"]


@pytest.mark.parametrize("action", ["arm", "retire"])
def test_nothing_is_ordered_before_a_person_agrees(
    firstlight: Firstlight, asked: Fake, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    no = firstlight("machine", action, "w1")
    assert (no.code, asked.orders) == (1, [])
    assert no.err.endswith("nothing was changed\n")

    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    nobody = firstlight("machine", action, "w1")
    assert (nobody.code, asked.orders) == (2, [])
    assert nobody.err.endswith("nobody can answer here: add --yes\n")

    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert firstlight("machine", action, "w1").code == 0
    assert firstlight("machine", action, "w1", "--yes").code == 0
    assert asked.orders == [("w1", action)] * 2


def test_a_machine_is_accepted_into_a_pool_under_a_name(firstlight: Firstlight, asked: Fake) -> None:
    done = firstlight("machine", "accept", "02:00:00:00:00:09", "--pool", "gpu8", "--name", "w7")

    assert done.code == 0
    assert done.out.splitlines()[1].split()[:1] == ["w7"]
    assert asked.orders == [("02:00:00:00:00:09", "accept gpu8 w7 False False")]


def test_a_machine_that_did_not_fit_is_armed_or_accepted_to_be_looked_at_again(
    firstlight: Firstlight, asked: Fake
) -> None:
    firstlight("machine", "arm", "w1", "--yes", "--recheck")
    firstlight("machine", "accept", "02:00:00:00:00:09", "--pool", "gpu8", "--recheck")

    assert asked.orders == [("w1", "arm recheck"), ("02:00:00:00:00:09", "accept gpu8  False True")]


@pytest.mark.usefixtures("asked")
def test_arming_names_the_disk_that_it_costs(firstlight: Firstlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))

    assert "w1 (52:54:00:aa:00:01): erase virtio-w1-root 8 GiB and" in firstlight("machine", "arm", "w1").err


def test_a_table_in_a_pipe_is_never_cut_or_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(("NAME", "MESSAGE"), [("w1", "x" * 500), ("[red]w2", "failed"), ("w3", "")]))

    assert capsys.readouterr().out.splitlines() == [
        "NAME     MESSAGE",
        f"w1       {'x' * 500}",
        "[red]w2  failed",
        "w3",
    ]


def test_json_is_sorted_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    emit("json", {"b": "\x1b[31m", "a": Path("x")}, (), ())

    text = capsys.readouterr().out
    assert list(json.loads(text)) == ["a", "b"]
    assert "\x1b" not in text


def test_steps_are_numbered_and_long_ones_tell_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(stderr(), total=2)
    with screen.step("keys"):
        screen.say(f"[made] {'long ' * 30}ca")
    with screen.step("image build") as progress:
        for done in range(101):
            progress("packing", done, 100)

    streams = capsys.readouterr()
    assert streams.out == ""
    lines = streams.err.splitlines()
    assert lines[0] == "1/2 keys"
    assert lines[1] == f"    [made] {'long ' * 30}ca"
    assert lines[3:15] == ["2/2 image build", *(f"    packing {percent} %" for percent in range(0, 101, 10))]


def test_a_step_that_fails_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(stderr(), total=1)

    with pytest.raises(KeyboardInterrupt), screen.step("keys"):
        raise KeyboardInterrupt

    assert capsys.readouterr().err.splitlines()[-1].startswith("    keys: stopped after 0.")


def test_status_names_an_alarm_of_the_network_and_exits_1(asked: Fake, firstlight: Firstlight) -> None:
    text = "another DHCP server answers: 10.77.0.3 (MAC 02:00:00:00:00:03), which offers 10.77.0.200"
    asked.standing = [{"text": text, "firstSeen": "2020-01-01T00:00:00Z"}]

    shown = firstlight("status")

    assert shown.code == 1
    assert f"ALARM: {text} (for " in shown.err
    assert "ALARM" not in shown.out, "stdout is the table of machines"


@pytest.mark.usefixtures("asked")
def test_explain_tells_the_boots_and_then_the_cause(firstlight: Firstlight) -> None:
    done = firstlight("machine", "explain", "w1")

    assert 1 == done.code
    assert done.out.splitlines() == [
        "w1 (52:54:00:aa:00:01)",
        "",
        "boot -1, 2026-11-22 UTC",
        "  12:00:00.250  DHCP DISCOVER [red]x (arch 7)",
        "",
        "last boot, 2026-11-22 UTC",
        "  12:00:00.250  DHCP DISCOVER [red]x (arch 7)",
        "",
        "tftp-blocked: TFTP does not come through",
        "to do: let it",
    ]


@pytest.mark.usefixtures("asked")
def test_explain_is_zero_when_nothing_is_wrong(
    firstlight: Firstlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DIAGNOSIS, "isWell", True)
    done = firstlight("-o", "json", "machine", "explain", "w1")

    assert 0 == done.code
    assert "w1" == done.json()["name"]
