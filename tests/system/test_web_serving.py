"""The web process as machines meet it: real nginx, real TLS, real sockets, kills and slow clients."""

import json
import os
import signal
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap.keys import renew_keys
from tests.system.web_bench import (
    ADDRESS,
    Answer,
    Appliance,
    appliance,
    children_of,
    is_alive,
    start,
    wait_for,
)
from tests.unit.web.fakes import W1, W3
from web.accesslog import requests_in

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("web")) as running:
        yield running


def machine(web: Appliance, name: str = "w1") -> dict[str, Any]:
    return web.operator.machine(name)


def test_a_machine_goes_all_the_way_through_real_http(web: Appliance) -> None:
    web.operator.act("w1", "arm")
    arm = machine(web)["arm"]
    assert b"/ipxe?mac=" in web.plain("GET", "/boot.ipxe").body
    script = web.plain("GET", f"/ipxe?mac={W1.replace(':', '-')}&platform=efi").body.decode()
    assert f"firstlight.arm={arm}" in script
    stage_a = web.plain("GET", f"/v1/ignition/{W1.replace(':', '-')}")
    assert json.loads(stage_a.body)["ignition"]["version"]
    granted = post(web, "/v1/machine/begin", {"mac": W1, "arm": arm})
    assert granted["attempt"] == 1
    config = web.secure("GET", granted["config"]["url"].partition(str(web.https_port))[2])
    assert config.headers["etag"].strip('"') == granted["config"]["sha256"]
    assert post(web, "/v1/machine/events", {"mac": W1, "arm": arm, "kind": "complete"})["seq"] > 0
    assert machine(web)["state"] == "installed"
    assert b"is installed" in web.plain("GET", f"/ipxe?mac={W1}&platform=efi").body


def post(web: Appliance, path: str, body: Any) -> Any:
    answer = web.secure("POST", path, body=json.dumps(body))
    assert answer.status == 200, answer
    return json.loads(answer.body)


def test_the_server_is_who_the_provisioning_ca_says(web: Appliance) -> None:
    assert web.secure("GET", "/livez").status == 200
    strangers = ssl.create_default_context()
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        socket.create_connection((ADDRESS, web.https_port)) as raw,
    ):
        strangers.wrap_socket(raw, server_hostname=ADDRESS)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_tls_is_spoken(web: Appliance, version: ssl.TLSVersion) -> None:
    context = web.context()
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection((ADDRESS, web.https_port)) as raw,
        context.wrap_socket(raw, server_hostname=ADDRESS),
    ):
        pass


def test_sightings_are_taken_from_the_certificate_of_pxe_only(web: Appliance) -> None:
    body = json.dumps([{"mac": W1, "kind": "discover", "detail": "from the test", "arch": 7}])

    assert web.secure("POST", "/v1/pxe/events", certificate="provisioning/pxe", body=body).status == 200
    assert web.secure("POST", "/v1/pxe/events", body=body).status == 403
    # Signed by the same CA, but another name; and one of a CA that is not trusted here at all.
    assert web.secure("POST", "/v1/pxe/events", certificate="provisioning/server", body=body).status in (
        400,
        403,
    )
    assert web.secure("POST", "/v1/pxe/events", certificate="admin", body=body).status == 400
    events = [
        event for event in web.operator.events(machine="w1") if event["detail"].startswith("from the test")
    ]
    assert [event["who"] for event in events] == ["pxe"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Firstlight-Listener": "operator"},
        {"x-firstlight-listener": "operator", "X-Firstlight-Client": "firstlight:pxe"},
        {"X_Firstlight_Listener": "operator"},
        {"X-Forwarded-For": "127.0.0.1", "Host": "localhost"},
    ],
)
def test_no_header_opens_another_listener(web: Appliance, headers: dict[str, str]) -> None:
    for path in ("/v1/machines", "/metrics", "/v1/events"):
        assert web.plain("GET", path, headers=headers).status == 404
        assert web.secure("GET", path, headers=headers).status == 404
    pxe = {**headers, "X-Firstlight-Client": "firstlight:pxe"}
    assert web.secure("POST", "/v1/pxe/events", headers=pxe, body="[]").status == 403
    assert web.plain("POST", "/v1/machine/begin", headers=headers, body="{}").status in (404, 405)


def test_the_plain_listener_reads_only(web: Appliance) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert web.plain(method, "/ipxe").status in (404, 405)


def test_the_sockets_and_the_state_are_their_owners_alone(web: Appliance) -> None:
    assert (web.work / "run/web.sock").stat().st_mode & 0o777 == 0o600
    assert (web.work / "state/state.db").stat().st_mode & 0o777 == 0o600
    assert (web.work / "state").stat().st_mode & 0o777 == 0o700
    assert (web.work / "run/operator.sock").stat().st_mode & 0o777 in (0o600, 0o666)  # in a 0700 folder


def test_an_artifact_comes_in_ranges(web: Appliance) -> None:
    disk = web.image.disk
    path = f"/artifacts/sha256/{disk.sha256}"
    content = (web.cache / "sha256" / disk.sha256).read_bytes()

    whole = web.plain("GET", path)
    part = web.plain("GET", path, headers={"Range": "bytes=1048570-1048589"})
    last = web.plain("GET", path, headers={"Range": f"bytes={disk.size - 5}-"})
    beyond = web.plain("GET", path, headers={"Range": f"bytes={disk.size}-"})

    assert (whole.status, whole.body == content) == (200, True)
    assert "immutable" in whole.headers["Cache-Control"]
    assert (part.status, part.body) == (206, content[1048570:1048590])
    assert part.headers["Content-Range"] == f"bytes 1048570-1048589/{disk.size}"
    assert (last.status, last.body) == (206, content[-5:])
    assert beyond.status == 416


def test_nginx_s_log_tells_a_file_that_came_whole_from_one_that_was_cut(web: Appliance) -> None:
    """What `machine explain` calls sent to the end."""
    disk = web.image.disk
    path = f"/artifacts/sha256/{disk.sha256}?told"
    for method, ranged in (("HEAD", ""), ("GET", ""), ("GET", "0-9"), ("GET", f"{disk.size - 5}-")):
        web.plain(method, path, headers={"Range": f"bytes={ranged}"} if ranged else {})
    with socket.create_connection((ADDRESS, web.http_port)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert raw.recv(1024).startswith(b"HTTP/1.1 200")

    def told() -> list[tuple[str, int]]:
        lines = (web.work / "log/nginx-access.log").read_bytes().splitlines(keepends=True)
        mine = b"".join(line for line in lines if b"?told " in line)
        return [(request.end, request.status) for _, _, request in requests_in(mine)]

    wait_for(lambda: len(told()) >= 5, web.text)
    ends = [("asked", 200), ("whole", 200), ("piece", 206), ("whole", 206), ("cut", 200)]
    assert sorted(told()) == sorted(ends), "nginx has several workers: lines are in no order"


def traversals() -> list[bytes]:
    """Return ways out of a folder, as they have worked on some server."""
    ups = [
        b"../", b"..%2f", b"%2e%2e/", b"%2e%2e%2f", b"%252e%252e%252f", b"..\\", b"..%5c", b"..%255c", b".%2e/",
        b"..;/", b"....//", b"%c0%ae%c0%ae/", b"..%c0%af", b"%e0%80%ae%e0%80%ae/", b"..%00/", b"..\x01/", b".../",
        b"%uff0e%uff0e/", b"..%09/", b"..//",
    ]  # fmt: skip
    roots = [
        b"/artifacts/",
        b"/artifacts/sha256/",
        b"/artifacts/sha256/" + b"a" * 64 + b"/",
        b"/",
        b"/v1/ignition/",
        b"//artifacts//sha256//",
    ]
    goals = [b"state/state.db", b"pki/provisioning/server.key", b"etc/passwd"]
    return [root + up * depth + goal for root in roots for up in ups for depth in (1, 4) for goal in goals]


def test_nothing_outside_the_store_can_be_fetched(web: Appliance) -> None:
    """Each on a bare socket: no client library tidies the path up."""
    (web.cache / "sha256" / "link").symlink_to(web.work / "pki/provisioning/server.key")
    planted = [
        b"/artifacts/sha256/link",
        b"/artifacts/sha256/",
        b"/artifacts/sha256",
        b"/artifacts/images/debian-13-cloud.json",
        b"/artifacts/sha256/" + b"A" * 64,
        b"/artifacts/sha256/" + b"0" * 64,
        b"/artifacts/sha256/" + b"a" * 65,
    ]
    tried = [*planted, *traversals()]
    assert len(tried) > 200
    for path in tried:
        answer = raw(web, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"PRIVATE KEY" not in answer, path
        assert b"SQLite format" not in answer, path
        assert b"root:" not in answer, path
        assert answer.split(b" ")[1][:1] == b"4" if answer else True, (path, answer[:80])
    (web.cache / "sha256" / "link").unlink()


def raw(web: Appliance, request: bytes) -> bytes:
    with socket.create_connection((ADDRESS, web.http_port), timeout=15) as connection:
        connection.sendall(request)
        pieces = []
        try:
            while piece := connection.recv(65536):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)


def test_sixty_four_slow_downloads_delay_no_small_answer(web: Appliance) -> None:
    quiet = median_of_boots(web)
    with ExitStack() as downloads:
        for _ in range(64):
            connection = downloads.enter_context(socket.create_connection((ADDRESS, web.http_port)))
            # A small window makes this a client that reads slowly: most of the file stays with the server.
            path = f"/artifacts/sha256/{web.image.disk.sha256}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(1024)
        busy = median_of_boots(web)

    assert busy < max(10 * quiet, 0.25), (quiet, busy)


def median_of_boots(web: Appliance) -> float:
    times = []
    for _ in range(30):
        start_time = time.monotonic()
        assert web.plain("GET", f"/ipxe?mac={W1}&platform=efi").status == 200
        times.append(time.monotonic() - start_time)
    return statistics.median(times)


def test_bodies_and_headers_have_limits(web: Appliance) -> None:
    assert web.secure("POST", "/v1/machine/events", body=b"x" * (1024 * 1024 + 1)).status == 413
    assert web.plain("GET", "/ipxe", headers={"X-Long": "x" * 40_000}).status in (400, 431)
    assert web.plain("GET", "/ipxe?mac=" + "x" * 40_000).status == 414
    deep = b"[" * 500_000
    assert web.secure("POST", "/v1/machine/events", body=deep).status == 400
    assert web.plain("GET", "/livez").status == 200


def test_a_client_that_never_finishes_its_request_is_cut_off(web: Appliance) -> None:
    begun = time.monotonic()
    with ExitStack() as slow:
        connections = [
            slow.enter_context(socket.create_connection((ADDRESS, web.http_port))) for _ in range(200)
        ]
        for connection in connections:
            connection.sendall(b"GET /ipxe HTTP/1.1\r\nHost: x\r\nX-")
        assert web.plain("GET", "/livez").status == 200
        for connection in connections:
            connection.settimeout(30)
            try:
                connection.recv(1024)
            except ConnectionResetError:
                continue
    assert time.monotonic() - begun < 25


def test_sixty_four_machines_of_one_arm_get_three_passes(web: Appliance) -> None:
    arm = web.operator.act("w1", "arm")["arm"]
    answers: list[Answer] = []
    body = json.dumps({"mac": W1, "arm": arm})

    def ask() -> None:
        answers.append(web.secure("POST", "/v1/machine/begin", body=body))

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    granted = sorted(json.loads(answer.body)["attempt"] for answer in answers if answer.status == 200)
    assert granted == [1, 2, 3]
    assert {answer.status for answer in answers} <= {200, 409, 429}
    assert machine(web)["state"] == "failed"


def test_a_killed_nginx_serves_again(web: Appliance) -> None:
    for _ in range(3):
        killed = web.nginx_master()
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda killed=killed: is_new(web, killed), web.text)  # type: ignore[misc]
        web.await_ready()
        assert web.plain("GET", "/livez").status == 200
        assert web.secure("GET", "/livez").status == 200


def is_new(web: Appliance, old: int) -> bool:
    try:
        return web.nginx_master() != old and is_alive(web.nginx_master())
    except (OSError, ValueError):
        return False


def test_a_killed_application_serves_again_and_forgot_nothing(web: Appliance) -> None:
    before = web.operator.events()[-1]["seq"]
    application = [pid for pid in children_of(web.process.pid) if b"web.server" in command_of(pid)]
    for pid in application:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(is_alive(pid) for pid in application), web.text)
    web.await_ready()

    assert web.operator.events()[-1]["seq"] == before
    assert web.plain("GET", f"/ipxe?mac={W3}").status == 200


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_renewed_certificate_is_served_without_a_restart(web: Appliance) -> None:
    before = certificate_of(web)
    renew_keys(web.cluster, web.work, datetime.now(UTC), names=("provisioning/server",))

    wait_for(lambda: certificate_of(web) != before, web.text)


def certificate_of(web: Appliance) -> bytes:
    with (
        socket.create_connection((ADDRESS, web.https_port), timeout=5) as raw_socket,
        web.context().wrap_socket(raw_socket, server_hostname=ADDRESS) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_nothing_of_it_stays(tmp_path: Path, number: int) -> None:
    with appliance(tmp_path) as web:
        family = children_of(web.process.pid)
        assert len(family) >= 4
        web.process.send_signal(number)
        code = web.process.wait(20)
        wait_for(lambda: not any(is_alive(pid) for pid in family), web.text)
        assert code == (-number if number == signal.SIGKILL else 0)
        # Started again over whatever a killed one left behind.
        web.process = start(web.work, web.cache, web.log)
        web.await_ready()
        web.process.send_signal(signal.SIGTERM)
        assert web.process.wait(20) == 0
        assert not (web.work / "run/web.pid").exists()


def test_a_damaged_state_file_is_named_in_the_log(tmp_path: Path) -> None:
    with appliance(tmp_path) as web:
        web.process.send_signal(signal.SIGTERM)
        web.process.wait(20)
        # The log may still hold every page: the file alone could be garbage and lose nothing.
        for log in (web.work / "state").glob("state.db-*"):
            log.unlink()
        (web.work / "state/state.db").write_bytes(b"this is no database" * 1000)
        web.process = start(web.work, web.cache, web.log)
        wait_for(lambda: "the file is damaged" in web.text(), web.text)
        assert not web.operator.is_ready()
        web.process.send_signal(signal.SIGTERM)
        assert web.process.wait(20) == 0
