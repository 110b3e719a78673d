"""The documents of a running node: served with their revision, confirmed, and shown when they are behind plan."""

from datetime import UTC, datetime

import pytest

from bootstrap import status
from bootstrap.render.node import revision_of, tar_of
from tests.unit.web.conftest import SHARED, Rack, node_json
from tests.unit.web.fakes import W1, W3, cluster
from tests.unit.web.joining import JoiningRack

PLANNED = revision_of(node_json("w1"), SHARED)
OLD = "a" * 64


@pytest.fixture
def rack() -> JoiningRack:
    rack = JoiningRack()
    rack.install()
    return rack


def fetch(rack: Rack, mac: str = W1, **headers: str) -> tuple[int, bytes, str]:
    answer = rack.ask("machine", "GET", f"/v1/machine/kubelet?mac={mac}", headers=headers)
    return answer.status_code, answer.data, answer.headers.get("ETag", "")


def confirm(rack: Rack, revision: str, mac: str = W1, **more: str) -> int:
    body = {"mac": mac, "arm": rack.record().arm, "revision": revision, **more}
    return rack.ask("machine", "POST", "/v1/machine/kubelet", json=body).status_code


def test_a_running_node_gets_its_documents_by_revision(rack: JoiningRack) -> None:
    status_code, content, etag = fetch(rack)

    assert (status_code, content, etag) == (200, tar_of(node_json("w1"), SHARED), f'"{PLANNED}"')
    assert fetch(rack, **{"If-None-Match": etag})[:2] == (304, b"")


def test_who_does_not_run_from_its_disk_gets_none() -> None:
    rack = JoiningRack()

    assert [fetch(rack, mac)[0] for mac in (W1, W3)] == [404, 404]
    assert rack.ask("machine", "GET", "/v1/machine/kubelet").status_code == 400


def test_where_nobody_joins_there_is_nothing() -> None:
    rack = Rack(cluster=cluster())
    rack.tell("booted")

    assert fetch(rack)[0] == 404


def shown(rack: Rack) -> str:
    return status.row(rack.machine(), datetime.now(UTC))[-1]


def test_a_node_that_runs_something_older_is_behind_plan(rack: JoiningRack) -> None:
    rack.claim()
    assert "behind plan" not in shown(rack)

    assert confirm(rack, OLD) == 200
    assert shown(rack).endswith("; behind plan")

    assert confirm(rack, PLANNED) == 200
    assert "behind plan" not in shown(rack)


def test_a_node_that_went_back_says_why(rack: JoiningRack) -> None:
    rack.claim()

    assert confirm(rack, OLD, reason="kubelet did not answer within 60 s\x1b[2J") == 200

    assert shown(rack).endswith("; behind plan (kubelet did not answer within 60 s [2J)")
    event = rack.site.ledger.events_of(W1)[-1]
    assert (event.what, event.decision) == ("rolled-back", OLD[:12])


def test_saying_it_again_is_no_news(rack: JoiningRack) -> None:
    confirm(rack, PLANNED)
    before = rack.site.ledger.last_event()

    assert confirm(rack, PLANNED) == 200
    assert rack.site.ledger.last_event() == before


@pytest.mark.parametrize("revision", ["x", "A" * 64, "a" * 63, "a" * 65])
def test_what_is_no_revision_is_a_bad_request(rack: JoiningRack, revision: str) -> None:
    assert confirm(rack, revision) == 400


def test_a_machine_that_is_let_go_confirms_nothing(rack: JoiningRack) -> None:
    assert confirm(rack, PLANNED, arm="11111111-1111-4111-8111-111111111111") == 409
    rack.operator("POST", "/v1/machines/w1/retire")
    assert confirm(rack, PLANNED) == 409
    assert fetch(rack)[0] == 404


@pytest.mark.parametrize(("state", "is_done"), [("installed", False), ("joined", False), ("ready", True)])
def test_a_machine_that_joins_is_done_when_it_is_ready(state: str, is_done: bool) -> None:  # noqa: FBT001  # a table
    machine = {"state": state, "joins": True, "sshAnswers": True, "bootedAt": "2026-01-01T00:00:00Z"}

    assert status.is_done(machine) is is_done
    assert status.is_done({**machine, "joins": False})
