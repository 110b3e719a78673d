"""Any request to any route is answered, and never with 500: the application without nginx in front (promise S-06)."""

import pytest
from werkzeug.test import TestResponse

from tests.tier import dice
from tests.unit.hostile.requests import request
from tests.unit.web.conftest import Rack

LISTENERS = {"plain": "public", "tls": "machine", "operator": "operator"}
FEW = 300


def sent(rack: Rack, listener: str, asked: bytes) -> TestResponse:
    """Hand a raw request to the application as nginx does: its own word on the listener, the length as it is."""
    head, _, body = asked.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = start.split(" ", 2)
    path, _, query = target.partition("?")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    kept = [
        (name, value) for name, value in headers if not name.startswith(("X-Firstlight", "Content-Length"))
    ]
    return rack.client.open(
        "/",
        method=method or "GET",
        headers=[
            *kept,
            ("X-Firstlight-Listener", LISTENERS[listener]),
            ("X-Firstlight-Client", "firstlight:pxe"),
        ],
        data=body,
        environ_overrides={"PATH_INFO": path, "QUERY_STRING": query},
    )


def test_no_request_makes_the_application_fail(rack: Rack, caplog: pytest.LogCaptureFixture) -> None:
    random = dice("requests")
    for _ in range(FEW):
        listener, asked = request(random)
        answer = sent(rack, listener, asked)
        assert answer.status_code != 500, (listener, asked, caplog.text[-3000:])
        rack.clock.forward(1)
    assert "our failure" not in caplog.text


@pytest.fixture
def rack() -> Rack:
    return Rack()
