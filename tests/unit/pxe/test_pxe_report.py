"""Events reach web in order; a web that is away, slow or cross never holds up the caller."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from pxe import report
from pxe.events import Event, Kind
from pxe.report import Reporter, Waiting

DEADLINE_SECONDS = 10.0


def event(number: int, detail: str = "") -> Event:
    return Event(mac=f"52:54:00:00:{number // 256:02x}:{number % 256:02x}", kind=Kind.DISCOVER, detail=detail)


def wait_for(question: Any) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not question() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(question())


class Web(ThreadingHTTPServer):
    """A web that takes events, refuses those whose detail is `poison`, or answers `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[dict[str, Any]] = []
        self.status = 200
        self.requests = 0
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/pxe/events"


class Handler(BaseHTTPRequestHandler):
    """Answers for a Web."""

    server: Web

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests += 1
        self.server.hold.wait()
        status = 400 if any(e["detail"] == "poison" for e in events) else self.server.status
        if status == 200:
            self.server.taken.extend(events)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.trust_env = False
        yield made


def numbers(web: Web) -> list[str]:
    return [taken["mac"] for taken in web.taken]


def test_events_arrive_in_order_as_the_contract_has_them(web: Web, session: requests.Session) -> None:
    reporter = Reporter(web.url, session)
    for number in range(250):
        reporter.put(event(number))
    reporter.start()
    assert wait_for(lambda: len(web.taken) == 250)
    reporter.close()
    assert numbers(web) == [event(number).mac for number in range(250)]
    assert web.taken[0] == {"mac": "52:54:00:00:00:00", "kind": "discover", "detail": "", "arch": None}
    assert web.requests == 3


def test_events_wait_for_a_web_that_fails(
    web: Web, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    web.status = 503
    reporter = Reporter(web.url, session)
    reporter.start()
    for number in range(5):
        reporter.put(event(number))
    assert wait_for(lambda: web.requests >= 2)
    web.status = 200
    assert wait_for(lambda: len(web.taken) == 5)
    reporter.close()
    assert numbers(web) == [event(number).mac for number in range(5)]
    assert caplog.text.count("does not take events (it answered 503)") == 1


def test_one_event_that_web_refuses_costs_itself_alone(
    web: Web, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = Reporter(web.url, session)
    for number in range(40):
        reporter.put(event(number, detail="poison" if number == 17 else ""))
    reporter.start()
    assert wait_for(lambda: len(web.taken) == 39)
    reporter.close()
    assert event(17).mac not in numbers(web)
    assert f"{event(17).mac}: web refused an event (400)" in caplog.text


def test_put_never_waits_and_the_oldest_give_way(
    web: Web, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    web.hold.clear()
    reporter = Reporter(web.url, session, most_waiting=10)
    reporter.start()
    began = time.monotonic()
    for number in range(1000):
        reporter.put(event(number))
    assert time.monotonic() - began < 1
    web.hold.set()
    assert wait_for(lambda: event(999).mac in numbers(web) and "were lost" in caplog.text)
    reporter.close()
    assert len(web.taken) < 1000


def test_close_posts_what_waits(web: Web, session: requests.Session) -> None:
    reporter = Reporter(web.url, session)
    reporter.start()
    reporter.put(event(1))
    reporter.close()
    assert numbers(web) == [event(1).mac]


def test_close_ends_within_its_second_when_web_hangs(web: Web, session: requests.Session) -> None:
    web.hold.clear()
    reporter = Reporter(web.url, session)
    reporter.start()
    reporter.put(event(1))
    assert wait_for(lambda: web.requests == 1)
    began = time.monotonic()
    reporter.close()
    assert time.monotonic() - began < report.CLOSE_SECONDS + 0.5


def test_close_ends_at_once_when_nobody_listens(session: requests.Session) -> None:
    reporter = Reporter("http://127.0.0.1:9/v1/pxe/events", session)
    reporter.put(event(1))
    reporter.start()
    reporter.close()
    assert not reporter._thread.is_alive()


def test_missing_certificate_is_a_web_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with report.session(tmp_path) as session:
        reporter = Reporter("https://127.0.0.1:9/v1/pxe/events", session)
        reporter.put(event(1))
        reporter.start()
        assert wait_for(lambda: "does not take events" in caplog.text)
        reporter.close()


def test_session_trusts_the_provisioning_ca_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ssl.get_default_verify_paths().openssl_cafile)
    with report.session(tmp_path) as session:
        chosen = session.merge_environment_settings("https://10.77.0.1:8443/", {}, None, None, None)
        assert chosen["verify"] == str(tmp_path / "bundle" / "appliance" / "provisioning-ca.crt")
        assert not chosen["proxies"]
        assert session.cert == tuple(
            str(tmp_path / "pki" / "provisioning" / f"pxe.{end}") for end in ("crt", "key")
        )


def test_returned_events_keep_their_place_and_only_the_oldest_are_lost() -> None:
    waiting = Waiting(most=4)
    for number in range(3):
        waiting.put(event(number))
    taken = waiting.take()
    for number in (3, 4):
        waiting.put(event(number))
    waiting.put_back(taken)
    assert [e.mac for e in waiting.take()] == [event(number).mac for number in (1, 2, 3, 4)]
    assert waiting.lost() == 1
    assert waiting.lost() == 0


def test_returned_events_fit_into_an_empty_queue() -> None:
    waiting = Waiting()
    for number in range(150):
        waiting.put(event(number))
    first = waiting.take()
    waiting.put_back(first)
    assert [e.mac for e in waiting.take(200)] == [event(number).mac for number in range(150)]
