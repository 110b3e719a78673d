"""What stands in front of Flask answers exactly as Flask does, for every request that comes."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, W3
from web.hot import Front

SHOWN = ("Content-Type", "Cache-Control", "ETag", "Retry-After", "Content-Length")
MACS = st.sampled_from([W1, W2, W3, W1.replace(":", "-").upper(), "no mac", "", "\xff"])
KINDS = st.sampled_from(["facts", "progress", "complete", "attempt-failed", "failed", "booted", "odd", ""])
PATHS = st.one_of(
    st.just("/ipxe"),
    st.builds("/v1/ignition/{}".format, MACS),
    st.just("/v1/machine/events"),
    st.sampled_from(
        ["/ipxe/", "/v1/ignition/", "/v1/ignition", "/v1/ignition/a/b", "//ipxe", "/v1/machine/events/", "/"]
    ),
)
QUERIES = st.dictionaries(
    st.sampled_from(["mac", "platform", "arch", "uuid", "serial", "x"]),
    st.one_of(MACS, st.sampled_from(["pcbios", "efi", "a b+c", "%00"]), st.text(max_size=8)),
)
REQUESTS = st.fixed_dictionaries(
    {
        "path": PATHS,
        "method": st.sampled_from(["GET", "GET", "POST", "POST", "HEAD", "PUT", "OPTIONS"]),
        "listener": st.sampled_from(["public", "public", "machine", "machine", "operator", ""]),
        "query": QUERIES,
        "body": st.tuples(MACS, KINDS, st.integers(-1, 101), st.booleans()),
        "etag": st.sampled_from([None, "*", '"x"', "known"]),
    }
)


def without_front(rack: Rack) -> Rack:
    front: Any = rack.app.wsgi_app
    assert isinstance(front, Front)
    rack.app.wsgi_app = front._behind  # type: ignore[method-assign,assignment]
    return rack


def asked(rack: Rack, request: dict[str, Any]) -> TestResponse:
    mac, kind, percent, is_whole = request["body"]
    body: dict[str, Any] = {
        "mac": mac,
        "kind": kind,
        "percent": percent,
        "stage": "write",
        "arm": rack.record().arm,
    }
    known = request["etag"] == "known" and rack.public(f"/v1/ignition/{W1}").headers.get("ETag")
    headers = {"If-None-Match": known or request["etag"]} if request["etag"] else {}
    text = rack.app.json.dumps(body)[: None if is_whole else -3]
    more: dict[str, Any] = {"data": text} if request["method"] in {"POST", "PUT"} else {}
    return rack.ask(
        request["listener"],
        request["method"],
        request["path"],
        query_string=request["query"],
        headers=headers,
        **more,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(REQUESTS, min_size=1, max_size=6))
def test_flask_behind_it_gives_the_same_answers_and_the_same_records(requests: list[dict[str, Any]]) -> None:
    hot, plain = Rack(), without_front(Rack())
    for request in requests:
        one, other = asked(hot, request), asked(plain, request)

        assert (other.status_code, other.data) == (one.status_code, one.data), request
        assert [other.headers.get(name) for name in SHOWN] == [one.headers.get(name) for name in SHOWN], (
            request
        )
    assert plain.record() == hot.record()
    assert plain.site.ledger.last_event() == hot.site.ledger.last_event()


def test_the_busy_routes_do_not_reach_flask(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    front: Any = rack.app.wsgi_app
    monkeypatch.setattr(front, "_behind", lambda *_: pytest.fail("Flask was asked"))

    assert 200 == rack.public("/ipxe", query_string={"mac": W1}).status_code
    assert 200 == rack.public(f"/v1/ignition/{W1}").status_code
    assert (
        200 == rack.tell("progress", stage="write", percent=5).status_code or rack.record().state == "armed"
    )


def test_an_answer_of_the_front_is_measured_as_any_other(rack: Rack) -> None:
    rack.public("/ipxe", query_string={"mac": W1})
    rack.public("/ipxe", query_string={"mac": "no mac"})

    metrics = rack.operator("GET", "/metrics").text

    assert 'firstlight_http_requests_total{route="/ipxe",status="200"} 1.0' in metrics
    assert 'firstlight_http_requests_total{route="/ipxe",status="400"} 1.0' in metrics


def test_an_unexpected_error_is_an_answer_without_our_insides(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rack.site, "images", lambda _: 1 / 0)

    answer = rack.public("/ipxe", query_string={"mac": W1})

    assert (500, {"reason": "the appliance failed; its log says why"}) == (answer.status_code, answer.json)


@pytest.mark.parametrize("length", ["", "-1", "65537", "99999999999", "٣"])
def test_a_body_of_an_odd_length_is_left_to_flask(rack: Rack, length: str) -> None:
    front: Any = rack.app.wsgi_app
    environ = {
        "PATH_INFO": "/v1/machine/events",
        "REQUEST_METHOD": "POST",
        "HTTP_X_FIRSTLIGHT_LISTENER": "machine",
        "CONTENT_LENGTH": length,
    }

    assert None is front._match(environ)[0]
