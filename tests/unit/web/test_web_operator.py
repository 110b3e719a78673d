"""The operator's API, health, metrics and the watcher."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.records.model import DiskChoice
from bootstrap.states import State
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W3, cluster
from web import watch
from web.operator import disk_text
from web.watch import Watcher

CONTRACT = {
    "name",
    "mac",
    "pool",
    "state",
    "reason",
    "firmware",
    "address",
    "disk",
    "since",
    "message",
    "stage",
    "percent",
    "attempts",
    "bootedAt",
    "sshAnswers",
    "arm",
    "sshHostKeys",
}


def test_the_machines_are_listed_by_name_with_all_that_the_contract_names(rack: Rack) -> None:
    rack.boot(W3)
    answer = rack.operator("GET", "/v1/machines").json
    assert answer is not None

    assert [machine["name"] for machine in answer["machines"]] == ["w1", "w2"]
    assert set(answer["machines"][0]) >= CONTRACT
    assert answer["machines"][0]["since"] == "2026-01-01T00:00:00Z"
    assert [stranger["mac"] for stranger in answer["strangers"]] == [W3]


@pytest.mark.parametrize("first", ["complete", "failed", None])
def test_the_operator_arms_again(rack: Rack, first: str | None) -> None:
    rack.begin()
    if first:
        rack.tell(first)
    before = rack.record().arm

    answer = rack.operator("POST", "/v1/machines/w1/arm")

    assert answer.status_code == 200
    assert answer.json is not None
    assert (answer.json["state"], answer.json["attempts"]) == ("armed", 0)
    assert answer.json["arm"] != before
    assert rack.site.ledger.events_of(W1)[-1].who == "operator"


def test_a_retired_machine_is_left_alone_until_it_is_armed(rack: Rack) -> None:
    assert rack.operator("POST", "/v1/machines/w1/retire").status_code == 200
    assert rack.operator("POST", "/v1/machines/w1/retire").status_code == 200
    assert "w1 is retired" in rack.boot()
    assert rack.operator("POST", "/v1/machines/w1/arm").status_code == 200
    assert "installing w1" in rack.boot()


def test_an_unknown_name_says_so(rack: Rack) -> None:
    for method, path in [("GET", ""), ("POST", "/arm"), ("POST", "/retire")]:
        answer = rack.operator(method, f"/v1/machines/w9{path}")
        assert (answer.status_code, answer.json) == (404, {"reason": "no machine is called w9"})


def test_a_machine_that_is_listed_no_more_cannot_be_armed(rack: Rack) -> None:
    rack.cluster = cluster({"name": "w3", "mac": W3})
    rack.operator("POST", "/v1/reload")

    answer = rack.operator("POST", "/v1/machines/w1/arm")

    assert answer.status_code == 409
    assert rack.machine("w1")["reason"] == "no longer in the configuration"


def test_events_are_followed_by_number_and_by_machine(rack: Rack) -> None:
    rack.boot()
    everything = (rack.operator("GET", "/v1/events").json or {})["events"]
    last = everything[-1]["seq"]
    rack.boot(W3)

    newer = (rack.operator("GET", f"/v1/events?after={last}").json or {})["events"]
    mine = (rack.operator("GET", "/v1/events?machine=w1").json or {})["events"]
    strangers = (rack.operator("GET", "/v1/events?machine=unknown").json or {})["events"]

    assert [event["seq"] for event in everything] == list(range(1, last + 1))
    assert [(event["seq"], event["machine"]) for event in newer] == [(last + 1, W3)]
    assert {event["machine"] for event in mine} == {"w1"}
    assert strangers == newer
    assert rack.operator("GET", "/v1/events?after=-1").status_code == 400
    assert rack.operator("GET", "/v1/events?machine=w9").status_code == 404


def test_a_reload_that_fails_leaves_the_old_configuration(rack: Rack) -> None:
    rack.cluster = cluster({"name": "w3", "mac": W3})
    rack.store.writes_fail = True

    assert rack.operator("POST", "/v1/reload").status_code == 503
    rack.store.writes_fail = False
    assert "installing w1" in rack.boot()


@pytest.mark.parametrize(
    ("disk", "text"),
    [
        (None, None),
        (DiskChoice(path="/dev/vda", serial="w1-root", size=8 * 1024**3), "w1-root 8 GiB"),
        (DiskChoice(path="/dev/sda", wwn="0x5000", size=1_920_383_410_176), "0x5000 1.747 TiB"),
        (DiskChoice(path="/dev/sda", size=512), "/dev/sda 512 B"),
    ],
)
def test_a_disk_in_a_few_words(disk: DiskChoice | None, text: str | None) -> None:
    assert disk_text(disk) == text


def test_what_the_supervisor_misses_is_said_by_readyz(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/troubles").write_text("pxe does not serve")
    answer = rack.public("/readyz")
    assert (answer.status_code, answer.json) == (503, {"reason": "pxe does not serve"})
    (tmp_path / "run/troubles").unlink()
    assert rack.public("/readyz").status_code == 200


def test_live_and_ready(rack: Rack) -> None:
    assert rack.public("/livez").status_code == 200
    assert rack.public("/readyz").status_code == 200
    rack.nginx_up = False
    answer = rack.public("/readyz")
    assert (answer.status_code, answer.json) == (503, {"reason": "nginx does not answer"})
    rack.store.reads_fail = True
    assert rack.public("/readyz").status_code == 503
    assert rack.public("/livez").status_code == 200


def test_metrics_have_bounded_labels(rack: Rack) -> None:
    for n in range(50):
        rack.public(f"/nothing-{n}")
    rack.boot()

    text = rack.operator("GET", "/metrics").text

    assert 'firstlight_machines{state="armed"} 1.0' in text
    assert 'firstlight_http_requests_total{route="none",status="404"} 50.0' in text
    assert 'firstlight_http_requests_total{route="/ipxe",status="200"} 1.0' in text
    assert "nothing-" not in text


def test_the_watcher_sees_ssh_answer_and_asks_seldom_afterwards(rack: Rack) -> None:
    asked: list[str] = []

    def probe(address: str) -> bool:
        asked.append(address)
        return len(asked) > 1

    watcher = Watcher(rack.site, probe)
    watcher.look()
    assert asked == []
    rack.tell("booted", address="10.77.0.101")
    for _ in range(4):
        watcher.look()

    assert asked == ["10.77.0.101"] * 2
    shown = rack.machine()
    assert (shown["sshAnswers"], shown["message"]) == (True, "booted from disk, ssh answers")
    rack.clock.forward(31)
    watcher.look()
    assert len(asked) == 3


def test_a_machine_that_booted_again_must_answer_again(rack: Rack) -> None:
    watcher = Watcher(rack.site, lambda _: True)
    rack.tell("booted", address="10.77.0.101")
    watcher.look()
    rack.clock.forward(1)
    rack.tell("booted", address="10.77.0.101")

    assert rack.machine()["sshAnswers"] is False
    watcher.look()
    assert rack.machine()["sshAnswers"] is True


def test_an_answer_of_before_a_new_arm_is_dropped(rack: Rack) -> None:
    rack.tell("booted", address="10.77.0.101")

    def probe(_: str) -> bool:
        rack.operator("POST", "/v1/machines/w1/arm")
        return True

    Watcher(rack.site, probe).look()

    assert (rack.record().state, rack.record().ssh_answers) == (State.ARMED, False)


def test_the_watcher_calls_a_silent_installation_stuck(rack: Rack) -> None:
    rack.begin()
    watcher = Watcher(rack.site, lambda _: False)
    rack.clock.forward(901)
    watcher.look()
    watcher.look()

    assert "stuck: nothing heard for 15 min" in rack.machine()["message"]
    assert [event.what for event in rack.site.ledger.events_of(W1)].count("stuck") == 1
    assert "firstlight_stuck_machines 1.0" in rack.operator("GET", "/metrics").text
    rack.tell("progress", stage="image", percent=50)
    assert rack.machine()["isStuck"] is False


@pytest.fixture
def greeter(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Serve one greeting per connection on a free port, which becomes the one that is probed."""
    greetings: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(watch, "SSH_PORT", server.getsockname()[1])
        monkeypatch.setattr(watch, "PROBE_SECONDS", 0.3)

        def greet() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(greetings[0])

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield greetings
        server.shutdown(socket.SHUT_RDWR)
        thread.join(2)


@pytest.mark.parametrize(
    ("greeting", "answers"), [(b"SSH-2.0-OpenSSH_10.0\r\n", True), (b"SSH-1.5", False), (b"220 ftp", False)]
)
def test_only_an_ssh_greeting_is_an_answer(greeter: list[bytes], greeting: bytes, answers: bool) -> None:  # noqa: FBT001
    greeter.append(greeting)

    assert watch.ssh_answers("127.0.0.1") is answers


def test_a_closed_port_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SSH_PORT", 9)

    assert not watch.ssh_answers("127.0.0.1")
