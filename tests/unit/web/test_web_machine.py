"""begin, events, config: limits, types, arms, repetition, races, and a store that fails."""

import threading
from typing import Any

import pytest

from bootstrap.states import State
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, W3, behind_relay

DISK = {"path": "/dev/vda", "serial": "w1-root", "wwn": None, "model": None, "size": 8 * 1024**3}
OLD_ARM = "11111111-1111-4111-8111-111111111111"


def test_begin_grants_a_pass_and_says_what_to_write(rack: Rack) -> None:
    answer = rack.begin(disk=DISK, facts={"firmware": "uefi", "cpus": 2, "unheard": "of"})

    assert answer.status_code == 200
    arm = rack.record().arm
    assert answer.json is not None
    config = answer.json["config"]
    assert answer.json["attempt"] == 1
    assert answer.json["image"] == {
        "url": f"http://10.77.0.1:8080/artifacts/sha256/{'c' * 64}",
        "sha256": "c" * 64,
        "size": 3,
        "rawSize": 4,
    }
    assert config["url"] == f"https://10.77.0.1:8443/v1/machine/config?mac=52-54-00-aa-00-01&arm={arm}"
    assert rack.machine()["disk"] == "w1-root 8 GiB"
    assert rack.machine()["facts"] == {"firmware": "uefi", "cpus": 2}


def test_the_config_is_what_begin_promised(rack: Rack) -> None:
    granted = rack.begin().json
    assert granted is not None
    path = granted["config"]["url"].removeprefix("https://10.77.0.1:8443")

    answer = rack.ask("machine", "GET", path)

    assert answer.data == b"installed of w1"
    assert answer.headers["ETag"] == f'"{granted["config"]["sha256"]}"'


@pytest.mark.parametrize(("mac", "arm", "status"), [(W1, OLD_ARM, 409), (W1, "", 409), (W3, OLD_ARM, 404)])
def test_the_config_is_for_the_current_arm_of_an_installing_machine(
    rack: Rack, mac: str, arm: str, status: int
) -> None:
    rack.begin()

    query = {"mac": mac, "arm": arm}
    assert rack.ask("machine", "GET", "/v1/machine/config", query_string=query).status_code == status


def test_the_config_is_not_given_before_begin_nor_after_complete(rack: Rack) -> None:
    query = {"mac": W1, "arm": rack.record().arm}
    assert rack.ask("machine", "GET", "/v1/machine/config", query_string=query).status_code == 409
    rack.begin()
    assert rack.ask("machine", "GET", "/v1/machine/config", query_string=query).status_code == 200
    rack.tell("complete")
    assert rack.ask("machine", "GET", "/v1/machine/config", query_string=query).status_code == 409


def test_the_fourth_begin_fails_the_machine(rack: Rack) -> None:
    assert [rack.begin().status_code for _ in range(4)] == [200, 200, 200, 409]

    assert rack.record().state is State.FAILED
    assert "3 install attempts" in rack.machine()["message"]
    assert rack.begin().status_code == 409


def test_a_begin_whose_answer_was_lost_is_the_same_pass(rack: Rack) -> None:
    first, again = rack.begin(nonce="n-1"), rack.begin(nonce="n-1")

    assert first.json == again.json


def test_sixty_four_threads_that_begin_get_three_passes(rack: Rack) -> None:
    answers: list[tuple[int, Any]] = []
    start = threading.Barrier(64)
    arm = rack.record().arm

    def ask() -> None:
        start.wait()
        answer = rack.app.test_client().post(
            "/v1/machine/begin", json={"mac": W1, "arm": arm}, headers={"X-Firstlight-Listener": "machine"}
        )
        answers.append((answer.status_code, (answer.json or {}).get("attempt")))

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    granted = sorted(attempt for status, attempt in answers if status == 200)
    assert granted == [1, 2, 3]
    assert {status for status, _ in answers} <= {200, 409, 429}
    assert rack.record().state is State.FAILED


@pytest.mark.parametrize("state", ["accepted", "installed", "failed", "retired"])
def test_a_disk_is_only_written_while_armed_or_installing(rack: Rack, state: str) -> None:
    if state == "accepted":
        answer = rack.begin(W2, arm=OLD_ARM)
    else:
        if state == "retired":
            rack.operator("POST", "/v1/machines/w1/retire")
        else:
            rack.tell({"installed": "complete", "failed": "failed"}[state])
        answer = rack.begin()

    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["reason"]


def test_a_missing_image_spends_no_attempt(rack: Rack) -> None:
    rack.image = None

    assert rack.begin().status_code == 503
    assert rack.record().attempts == 0


def test_begin_with_another_arm_or_of_a_stranger_is_refused(rack: Rack) -> None:
    assert rack.begin(arm=OLD_ARM).status_code == 409
    body = {"mac": W3, "arm": OLD_ARM}
    assert rack.ask("machine", "POST", "/v1/machine/begin", json=body).status_code == 404
    assert rack.record().attempts == 0


@pytest.mark.parametrize("kind", ["complete", "already-installed"])
def test_the_end_said_twice_is_one_transition_with_one_answer(rack: Rack, kind: str) -> None:
    rack.begin()

    first, again = rack.tell(kind), rack.tell(kind)

    assert first.json == again.json
    assert rack.record().state is State.INSTALLED
    assert [event.what for event in rack.site.ledger.events_of(W1)] == ["armed", "begin", kind]


def test_a_failure_said_twice_is_one_transition_with_one_answer(rack: Rack) -> None:
    first, again = rack.tell("failed", message="no disk matches"), rack.tell("failed", message="no disk")

    assert first.json == again.json
    assert rack.machine()["reason"] == "no disk matches"


def test_a_failure_after_the_end_is_an_event_only(rack: Rack) -> None:
    rack.tell("complete")

    assert rack.tell("failed", message="late").status_code == 200
    assert rack.record().state is State.INSTALLED


def test_progress_is_seen_and_does_not_fill_the_log(rack: Rack) -> None:
    rack.begin()
    before = rack.site.ledger.last_event()
    for percent in range(101):
        rack.clock.forward(1)
        rack.tell("progress", stage="image", percent=percent, message=f"{percent} MiB")

    shown = rack.machine()
    assert (shown["stage"], shown["percent"] >= 95) == ("image", True)
    assert rack.site.ledger.last_event() == before + 1


@pytest.mark.parametrize("kind", ["facts", "progress", "complete", "already-installed", "failed"])
def test_a_report_of_another_arm_changes_nothing(rack: Rack, kind: str) -> None:
    before = rack.site.ledger.last_event()

    answer = rack.tell(kind, arm=OLD_ARM)

    assert answer.status_code == 409
    assert (rack.record().state, rack.site.ledger.last_event()) == (State.ARMED, before)


@pytest.mark.parametrize("first", ["begin", "failed", None])
def test_a_system_that_booted_with_the_current_arm_is_installed(rack: Rack, first: str | None) -> None:
    """The report of the end may have been lost, or a failure reported by mistake: the boot is the proof."""
    if first == "begin":
        rack.begin()
    elif first:
        rack.tell(first)

    rack.tell(
        "booted", address="10.77.0.101", firmware="uefi", sshHostKeys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"]
    )

    shown = rack.machine()
    assert shown["state"] == "installed"
    assert shown["address"] == "10.77.0.101"
    assert shown["firmware"] == "uefi"
    assert shown["bootedAt"].startswith("2026-01-01T00:00:00")
    assert shown["sshHostKeys"] == ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"]
    assert shown["message"] == "booted from disk"


def test_a_boot_with_an_earlier_arm_is_an_event_only(rack: Rack) -> None:
    arm = rack.record().arm
    rack.tell("booted")
    rack.operator("POST", "/v1/machines/w1/arm")

    answer = rack.tell("booted", arm=arm, address="10.77.0.101")

    assert answer.status_code == 200
    assert rack.record().state is State.ARMED
    event = rack.site.ledger.events_of(W1)[-1]
    assert (event.what, event.decision) == ("booted", "ignored")


def test_a_retired_machine_that_boots_stays_retired(rack: Rack) -> None:
    rack.operator("POST", "/v1/machines/w1/retire")

    assert rack.tell("booted").status_code == 200
    assert rack.record().state is State.RETIRED


@pytest.mark.parametrize("address", ["192.0.2.1", "10.77.1.1", "localhost", "10.77.0.101; rm", "::1", ""])
def test_an_address_outside_the_network_is_not_believed(rack: Rack, address: str) -> None:
    rack.tell("booted", address=address)

    assert rack.machine()["address"] is None


def test_an_address_behind_a_relay_is_believed(rack: Rack) -> None:
    rack.site.cluster = behind_relay(rack.site.cluster)
    rack.tell("booted", address="10.78.0.150")

    assert rack.machine()["address"] == "10.78.0.150"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"mac":"52:54:00:aa:00:01"}',
        b'{"percent": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 30 + b"1" + b"}" * 30,
    ],
)
@pytest.mark.parametrize("path", ["/v1/machine/begin", "/v1/machine/events"])
def test_what_is_no_report_is_a_bad_request(rack: Rack, path: str, body: bytes) -> None:
    assert rack.ask("machine", "POST", path, data=body).status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "armed"},
        {"kind": ["progress"]},
        {"percent": 101},
        {"percent": -1},
        {"stage": "a b"},
        {"stage": "x" * 33},
        {"arm": "x"},
        {"mac": 5},
        {"mac": "ff:ff:ff:ff:ff:ff"},
        {"sshHostKeys": ["ssh-ed25519 AAAA\nssh-rsa"]},
        {"sshHostKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"] * 17},
        {"firmware": "coreboot"},
        {"message": {"a": 1}},
        {"kind": "facts", "cpus": "many"},
        {"kind": "failed", "disks": [{"size": -1}]},
    ],
)
def test_a_value_out_of_its_range_is_a_bad_request(rack: Rack, change: dict[str, Any]) -> None:
    body = {"mac": W1, "arm": rack.record().arm, "kind": "progress"} | change

    answer = rack.ask("machine", "POST", "/v1/machine/events", json=body)

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["reason"]


def test_a_body_over_its_limit_is_refused(rack: Rack) -> None:
    assert rack.begin(facts={"kernel": "x" * 1024 * 1024}).status_code == 413
    assert rack.begin(facts={"kernel": "x" * 1000 * 1024}).status_code == 200
    assert rack.tell("progress", message="x" * 64 * 1024).status_code == 413
    assert rack.tell("facts", kernel="x" * 64 * 1024).status_code == 200


def test_text_of_a_machine_is_kept_on_one_line_and_short(rack: Rack) -> None:
    rack.tell("failed", message="\x1b[31mred\r\n" + "x" * 5000)

    reason = rack.machine()["reason"]
    assert reason.startswith("[31mred xxx")
    assert len(reason) == 500


def test_a_machine_that_reports_without_end_is_slowed_down(rack: Rack) -> None:
    statuses = {rack.tell("progress", stage="image", percent=1).status_code for _ in range(60)}

    assert 429 in statuses
    rack.clock.forward(1)
    assert rack.tell("facts").status_code == 200


def test_a_store_that_fails_is_a_503_and_nothing_is_granted(rack: Rack) -> None:
    rack.store.writes_fail = True
    assert rack.begin().status_code == 503
    assert rack.tell("complete").status_code == 503
    rack.store.writes_fail = False

    assert (rack.record().state, rack.record().attempts) == (State.ARMED, 0)
    rack.store.reads_fail = True
    body = {"mac": W1, "arm": OLD_ARM}
    assert rack.ask("machine", "POST", "/v1/machine/begin", json=body).status_code == 503


def test_facts_beside_the_other_keys_are_kept(rack: Rack) -> None:
    rack.tell("facts", firmware="bios", serial="S1", disks=[DISK | {"type": "virtio", "byPath": ["pci-1"]}])

    shown = rack.machine()
    assert shown["firmware"] == "bios"
    assert shown["facts"]["serial"] == "S1"
    assert shown["facts"]["disks"][0]["byPath"] == ["pci-1"]
