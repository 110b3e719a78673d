"""Who may call what: the whole route table, on every listener, with every method."""

import pytest
from flask import Flask

from bootstrap.errors import ServeError
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1
from web.app import create_app
from web.listeners import Access, Routes

LISTENERS = ["public", "machine", "operator", "pxe", "Public", "public,operator", "", None]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]

ACCESS: dict[str, set[str]] = {
    "/boot.ipxe": {"public", "machine"},
    "/ipxe": {"public", "machine"},
    "/ipxe/leave": {"public", "machine"},
    "/v1/ignition/<mac>": {"public", "machine"},
    "/livez": {"public", "machine", "operator"},
    "/readyz": {"public", "machine", "operator"},
    "/v1/machine/begin": {"machine"},
    "/v1/machine/events": {"machine"},
    "/v1/machine/config": {"machine"},
    "/v1/claim": {"machine"},
    "/v1/machine/kubelet": {"machine"},
    "/v1/machine/gpus": {"machine"},
    "/v1/discovery": {"machine"},
    "/v1/discovery/<mac>": {"machine"},
    "/v1/pxe/events": set(),  # no listener is enough: it takes the certificate
    "/v1/alarms": {"operator"},
    "/v1/gpus": {"operator"},
    "/v1/machines": {"operator"},
    "/v1/machines/<name>": {"operator"},
    "/v1/machines/<name>/accept": {"operator"},
    "/v1/machines/<name>/story": {"operator"},
    "/v1/machines/<name>/arm": {"operator"},
    "/v1/machines/<name>/driver": {"operator"},
    "/v1/machines/<name>/retire": {"operator"},
    "/v1/events": {"operator"},
    "/v1/reload": {"operator"},
    "/metrics": {"operator"},
}


def test_this_table_holds_every_route(rack: Rack) -> None:
    assert {rule.rule for rule in rack.app.url_map.iter_rules()} == set(ACCESS)


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_route_answers_on_its_own_listeners_only(rack: Rack, listener: str | None) -> None:
    headers = {} if listener is None else {"X-Firstlight-Listener": listener}
    nothing = rack.client.get("/nothing", headers=headers)
    assert nothing.status_code == 404
    rules = list(rack.app.url_map.iter_rules())
    for rule in rules:
        methods = {method for other in rules if other.rule == rule.rule for method in other.methods or ()}
        path = rule.rule.replace("<mac>", W1).replace("<name>", "w1")
        for method in METHODS:
            before = rack.site.ledger.last_event()
            answer = rack.client.open(path, method=method, headers=headers)
            is_right = listener in ACCESS[rule.rule] and method in methods
            if is_right:
                assert answer.status_code != 404, (method, path)
                continue
            expected = 403 if (path, listener, method) == ("/v1/pxe/events", "machine", "POST") else 404
            assert answer.status_code == expected, (method, path)
            assert rack.site.ledger.last_event() == before
            if expected == 404 and method != "HEAD":
                assert answer.data == nothing.data


@pytest.mark.parametrize("client", ["", "firstlight:web", "FIRSTLIGHT:PXE", "firstlight:pxe,x", None])
def test_only_the_certificate_of_pxe_may_report_sightings(rack: Rack, client: str | None) -> None:
    headers = {} if client is None else {"X-Firstlight-Client": client}

    assert rack.ask("machine", "POST", "/v1/pxe/events", json=[], headers=headers).status_code == 403


def test_pxe_with_its_certificate_reports_sightings(rack: Rack) -> None:
    sightings = [
        {"mac": W1, "kind": "discover", "detail": "PXEClient:Arch:00007\x1b[2J", "arch": 7},
        {"mac": "", "kind": "tftp-sent", "detail": "snponly.efi"},
    ]
    headers = {"X-Firstlight-Client": "firstlight:pxe"}

    answer = rack.ask("machine", "POST", "/v1/pxe/events", json=sightings, headers=headers)

    assert answer.json == {"accepted": 2}
    event = rack.site.ledger.events_of(W1)[-1]
    assert (event.who, event.what, event.machine) == ("pxe", "discover", "w1")
    assert event.detail == "PXEClient:Arch:00007 [2J (architecture 7)"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host"])
def test_forwarded_headers_change_nothing(rack: Rack, header: str) -> None:
    plain = rack.public("/v1/machines")
    with_header = rack.public("/v1/machines", headers={header: "127.0.0.1"})

    assert (plain.status_code, with_header.status_code) == (404, 404)


def test_doubled_slashes_and_trailing_ones_lead_nowhere(rack: Rack) -> None:
    for path in ("//ipxe", "/ipxe/", "/v1//machines", "/V1/machines"):
        assert rack.ask("operator", "GET", path).status_code == 404


def test_an_undeclared_route_keeps_the_app_from_starting(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(routes: Routes, site: object) -> None:
        del site
        routes._app.add_url_rule("/debug", endpoint="debug", view_func=lambda: "everything")

    monkeypatch.setattr("web.app.health.add", add)
    with pytest.raises(ServeError, match="do not declare who may call them: /debug"):
        create_app(rack.site)


def test_a_route_declared_for_nobody_keeps_the_app_from_starting() -> None:
    routes = Routes(Flask("test", static_folder=None))
    routes.get("/x")(lambda: "")

    with pytest.raises(ServeError, match="/x"):
        routes.refuse_undeclared()


def test_a_route_that_slips_in_later_answers_nobody() -> None:
    app = Flask("test", static_folder=None)
    routes = Routes(app)
    routes.refuse_undeclared()
    app.add_url_rule("/late", endpoint="late", view_func=lambda: "x")

    for access in Access:
        answer = app.test_client().get("/late", headers={"X-Firstlight-Listener": access})
        assert answer.status_code == 404


def test_the_debugger_keeps_the_app_from_starting(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")

    with pytest.raises(ServeError, match="FLASK_DEBUG"):
        create_app(rack.site)
