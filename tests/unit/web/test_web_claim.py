"""POST /v1/claim: who gets a certificate, when, and what happens to everybody else."""

import json
import threading
from typing import Any

import pytest

from bootstrap.states import State
from tests.tier import Promise, rounds, seed
from tests.unit.web.fakes import W1, W2, W3, cluster
from tests.unit.web.joining import DOWN, LIFE, JoiningRack, csr
from web import claim as claiming

OLD_ARM = "11111111-1111-4111-8111-111111111111"
RACES = rounds(60, 1000)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "POLL_EVERY", 0.01)
    monkeypatch.setattr(claiming, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(claiming, "DOWN_SECONDS", 0.0)


@pytest.fixture
def rack() -> JoiningRack:
    return JoiningRack()


def test_an_installed_machine_gets_its_certificate_and_is_joined(rack: JoiningRack) -> None:
    rack.install()

    answer = rack.claim()

    assert answer.status_code == 200
    assert answer.json is not None
    assert set(answer.json) == {"certificate", "ca", "endpoint"}
    assert answer.json["certificate"].startswith("-----BEGIN CERTIFICATE-----\n")
    assert answer.json["endpoint"] == "https://10.77.0.10:6443"
    assert rack.record().state is State.JOINED
    shown = rack.machine()
    assert shown["claim"]["node"] == "w1"
    assert shown["message"] == "joined; its node is not Ready yet"
    what = [event.what for event in rack.site.ledger.events_of(W1)]
    assert what[-2:] == ["claimed", "joined"]


def test_the_same_key_gets_the_same_certificate_without_asking_the_cluster(rack: JoiningRack) -> None:
    rack.install()
    first = rack.claim().json
    events = rack.site.ledger.last_event()
    rack.kube.trouble = DOWN

    assert [rack.claim().json for _ in range(3)] == [first] * 3
    assert (rack.kube.made, rack.site.ledger.last_event()) == (1, events)


def test_a_node_whose_certificate_ran_out_gets_a_new_one_for_the_same_key(rack: JoiningRack) -> None:
    rack.install()
    first = rack.claim().json
    rack.clock.forward(LIFE.total_seconds() + 3600)

    again = rack.claim()

    assert again.status_code == 200
    assert again.json != first
    assert (rack.kube.made, rack.record().state) == (2, State.JOINED)


def test_a_certificate_near_its_end_is_not_handed_out_again(rack: JoiningRack) -> None:
    rack.install()
    first = rack.claim().json
    rack.clock.forward(0.89 * LIFE.total_seconds())
    assert rack.claim().json == first
    rack.clock.forward(0.02 * LIFE.total_seconds())
    assert rack.claim().json != first


def test_a_second_key_is_refused_quarantines_and_alarms(rack: JoiningRack) -> None:
    rack.install()
    rack.claim()

    answer = rack.claim(csr(number=1))

    assert answer.status_code == 409
    assert "PRIVATE" not in answer.text
    assert rack.record().state is State.QUARANTINED
    assert len(rack.alarms()) == 1
    assert rack.claim().status_code == 409
    assert rack.claim(csr(number=1)).status_code == 409
    assert rack.kube.made == 1
    assert "arm w1" in rack.machine()["nextStep"]


def test_a_reinstalled_machine_joins_with_a_new_key_under_the_same_name(rack: JoiningRack) -> None:
    rack.install()
    old = rack.claim()
    arm = rack.record().arm
    rack.arm()

    assert rack.claim(arm=arm).status_code == 409  # the old system, still running
    rack.install()
    again = rack.claim(csr(number=1))
    assert (again.status_code, again.json == old.json) == (200, False)
    assert rack.record().state is State.JOINED
    assert rack.claim().status_code == 409  # the old key, with the new arm
    assert rack.record().state is State.QUARANTINED


def test_a_quarantined_machine_comes_back_by_retire_and_arm(rack: JoiningRack) -> None:
    rack.install()
    rack.claim()
    rack.claim(csr(number=1))
    rack.operator("POST", "/v1/machines/w1/retire")
    rack.arm()
    rack.install()

    assert rack.claim(csr(number=2)).status_code == 200


def claim_of(rack: JoiningRack, mac: str) -> Any:
    body = {"mac": mac, "arm": OLD_ARM, "csr": csr("w2")}
    return rack.ask("machine", "POST", "/v1/claim", json=body)


def nobodies(rack: JoiningRack) -> dict[str, Any]:
    """An answer to each who may claim nothing."""
    rack.install()
    rack.operator("POST", "/v1/machines/w1/retire")
    return {
        "unknown": claim_of(rack, W3),
        "never armed": claim_of(rack, W2),
        "retired": rack.claim(),
        "retired, bad request": rack.claim("nonsense"),
        "retired, other arm": rack.claim(arm=OLD_ARM),
    }


def test_who_may_claim_nothing_gets_one_and_the_same_answer(rack: JoiningRack) -> None:
    answers = nobodies(rack)
    nothing = rack.ask("machine", "GET", "/nothing")

    assert {answer.status_code for answer in answers.values()} == {404}
    assert {answer.data for answer in answers.values()} == {nothing.data}
    assert len({tuple(sorted(answer.headers)) for answer in answers.values()}) == 1


def test_hammering_does_not_tell_a_retired_machine_from_an_unknown_one(rack: JoiningRack) -> None:
    rack.operator("POST", "/v1/machines/w1/retire")

    assert {rack.claim().status_code for _ in range(80)} == {404}


def test_a_machine_that_claims_without_end_is_slowed_down(rack: JoiningRack) -> None:
    rack.install()

    assert {rack.claim().status_code for _ in range(80)} == {200, 429}


def test_a_cluster_without_control_plane_hosts_has_nothing_to_claim() -> None:
    rack = JoiningRack(cluster=cluster())
    rack.install()

    assert rack.claim().status_code == 404
    assert rack.machine()["joins"] is False


@pytest.mark.parametrize("state", ["armed", "installing"])
def test_a_claim_before_the_system_has_reported_waits(rack: JoiningRack, state: str) -> None:
    if state == "installing":
        rack.begin()

    answer = rack.claim()

    assert answer.status_code == 202
    assert int(answer.headers["Retry-After"]) >= 1
    assert rack.record().claim is None
    assert rack.kube.requests == {}
    rack.install()
    assert rack.claim().status_code == 200


def test_a_failed_machine_is_told_why(rack: JoiningRack) -> None:
    rack.tell("failed", message="no disk matches")

    answer = rack.claim()

    assert (answer.status_code, rack.record().claim) == (409, None)
    assert "machine arm w1" in answer.text


def test_another_arm_changes_nothing(rack: JoiningRack) -> None:
    rack.install()

    assert rack.claim(arm=OLD_ARM).status_code == 409
    assert (rack.record().state, rack.record().claim) == (State.INSTALLED, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        csr("w2"),
        csr().replace("REQUEST", ""),
        csr() * 2,
        csr() + "\n\n",
        "\ud800" + csr()[1:],
    ],
)
def test_a_wrong_request_is_a_bad_request_and_binds_nothing(rack: JoiningRack, text: str) -> None:
    rack.install()

    answer = rack.ask(
        "machine",
        "POST",
        "/v1/claim",
        data=json.dumps({"mac": W1, "arm": rack.record().arm, "csr": text}),
    )

    assert answer.status_code == 400
    assert (rack.record().state, rack.record().claim) == (State.INSTALLED, None)
    assert rack.claim().status_code == 200


@pytest.mark.parametrize(
    "change", [{"csr": None}, {"csr": 5}, {"csr": ["x"]}, {"csr": "x" * 4097}, {"mac": 1}, {"arm": ""}]
)
def test_a_value_out_of_its_range_is_a_bad_request(rack: JoiningRack, change: dict[str, Any]) -> None:
    rack.install()
    body = {"mac": W1, "arm": rack.record().arm, "csr": csr()} | change

    assert rack.ask("machine", "POST", "/v1/claim", json=body).status_code == 400


def test_a_long_body_is_refused_before_it_is_parsed(rack: JoiningRack) -> None:
    rack.install()

    assert rack.claim(more="x" * 9000).status_code == 413


def test_a_thousand_races_of_two_keys_never_make_two_live_bindings(promise: Promise) -> None:
    """T-02: two clients with different keys for one machine; at most one ever gets a certificate, and it is told."""
    doubles = quiet = winners = 0
    for _ in range(RACES):
        rack = JoiningRack()
        rack.install()
        answers = race(rack, [csr(), csr(number=1)])
        granted = {key for key, status in answers if status == 200}
        doubles += len(granted) > 1
        winners += len(granted)
        quiet += len(rack.alarms()) != 1
        assert rack.record().state is State.QUARANTINED
        assert len({name.rpartition("-")[0] for name in rack.kube.requests}) <= 1
        assert rack.kube.made <= 1

    assert (doubles, quiet) == (0, 0)
    promise(
        promise="T-02 two keys race",
        asked="1000 races of two clients with different keys: never two certificates, always an alarm",
        done=f"{RACES} races, 2 clients each",
        found=f"0 times two certificates, {RACES} alarms, {winners} certificates before the alarm",
        seed=seed(),
    )


def test_sixty_four_threads_with_one_key_get_one_certificate(rack: JoiningRack) -> None:
    rack.install()

    answers = race(rack, [csr()] * 64)

    assert {status for _, status in answers} <= {200, 202, 429}
    assert 200 in {status for _, status in answers}
    assert (rack.kube.made, rack.kube.created) == (1, 1)
    assert rack.alarms() == []


def test_sixty_four_threads_with_sixty_four_keys_get_one_certificate_at_most(rack: JoiningRack) -> None:
    rack.install()

    answers = race(rack, [csr(number=number) for number in range(64)])

    assert len({key for key, status in answers if status == 200}) <= 1
    assert rack.record().state is State.QUARANTINED
    assert len(rack.alarms()) == 1
    assert rack.kube.made <= 1


def race(rack: JoiningRack, requests: list[str]) -> list[tuple[str, int]]:
    """Claim with every request at the same moment; return each and the status it got."""
    start, arm = threading.Barrier(len(requests)), rack.record().arm
    answers: list[tuple[str, int]] = []

    def ask(text: str) -> None:
        client = rack.app.test_client()
        start.wait()
        answer = client.post(
            "/v1/claim",
            json={"mac": W1, "arm": arm, "csr": text},
            headers={"X-Firstlight-Listener": "machine"},
        )
        answers.append((text, answer.status_code))

    threads = [threading.Thread(target=ask, args=(text,)) for text in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(requests)
    return answers
