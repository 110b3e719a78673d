"""Promise S-13: nothing from outside the store, on any route, listener or trick."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.hostile_wire import LISTENERS, Canaries, answer_from, canaries, leaks, tell
from tests.system.web_bench import Appliance, appliance
from tests.tier import Promise, dice, rounds, seed
from tests.unit.hostile.targets import odd_requests, paths, plants, whole

pytestmark = [pytest.mark.system, pytest.mark.promise]

OPEN = (b"#!ipxe", b"ok\n", b'{"')  # what the other routes say: a script, a word, JSON


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest.fixture(scope="module")
def canary(web: Appliance) -> Iterator[Canaries]:
    with canaries(web) as placed:
        yield placed


def contents(web: Appliance) -> list[bytes]:
    """Return every content that the plain routes may give."""
    artifacts = [(web.cache / "sha256" / file.sha256).read_bytes() for file in web.image.artifacts]
    return [*artifacts, (web.work / "bundle/web/boot.ipxe").read_bytes()]


def judge(request: bytes, data: bytes, canary: Canaries, known: list[bytes]) -> int | None:
    """Assert that an answer holds nothing from outside, and that what it gives, if anything, is ours; its status."""
    answer = answer_from(data)
    assert leaks(data, canary) == [], request[:300]
    assert answer.status != 500, (request[:300], data[:500])
    if answer.status in {200, 206}:
        is_ours = any(answer.body in content for content in known) or answer.body.startswith(OPEN)
        assert is_ours, (request[:300], data[:500])
        assert b'"machines"' not in answer.body, (request[:300], data[:500])
    return answer.status


def test_nothing_outside_the_store_is_given_on_any_listener(
    web: Appliance, canary: Canaries, promise: Promise
) -> None:
    known, random, done = contents(web), dice("paths"), Counter[str]()
    every = [whole(path) for path in random.sample(paths(), rounds(400, 3000))]
    requests = [*every, *map(whole, plants()), *odd_requests()]
    for listener in LISTENERS:
        for request in requests:
            if listener == "operator" and b"/v1/machines" in request:
                continue  # there it is an answer, not a leak
            status = judge(request, tell(web, listener, request), canary, known)
            done[f"{(status or 0) // 100}xx"] += 1

    assert web.plain("GET", "/livez").status == 200
    assert "Traceback" not in web.log.read_text()
    promise(
        promise="S-13 traversal",
        asked="200 raw-socket strings on every artifact route: 0 bytes from outside the store",
        done=f"{len(requests)} strings, 3 listeners, {len(canary.paths)} canaries, {len(canary.links)} links",
        found=f"0 bytes; answers {dict(sorted(done.items()))} (0xx: closed without one)",
        seed=seed(),
    )


@pytest.mark.parametrize("digit", "1234")
def test_a_link_in_the_store_is_not_followed(web: Appliance, canary: Canaries, digit: str) -> None:
    name = digit * 64
    assert name in canary.links
    assert (web.cache / "sha256" / name).exists()

    for listener in LISTENERS:
        answer = answer_from(tell(web, listener, whole(f"/artifacts/sha256/{name}".encode())))
        assert answer.status in {403, 404}, (listener, answer)


def test_a_store_behind_links_of_the_operator_still_serves(web: Appliance) -> None:
    """The operator may keep the cache anywhere: only what lies inside of it must be no link."""
    assert (web.work / "run/artifacts").is_symlink()
    assert web.plain("GET", f"/artifacts/sha256/{web.image.kernel.sha256}").body == b"kernel"


def test_a_request_hidden_in_another_one_does_not_reach_the_operators_routes(web: Appliance) -> None:
    before = web.operator.machine("w2")["state"]
    hidden = b"POST /v1/machines/w2/arm HTTP/1.1\r\nHost: x\r\nX-Firstlight-Listener: operator\r\n\r\n"
    size = str(len(hidden)).encode()
    for pair in (
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Content-Length: " + size + b"\r\nContent-Length: 0",
        b"Transfer-Encoding: chunked\r\nContent-Length: " + size,
    ):
        for listener in ("plain", "tls"):
            tell(
                web,
                listener,
                b"POST /v1/machine/events HTTP/1.1\r\nHost: x\r\n" + pair + b"\r\n\r\n0\r\n\r\n" + hidden,
            )

    assert web.operator.machine("w2")["state"] == before


def test_the_log_stays_one_line_of_json_per_request(web: Appliance) -> None:
    tell(web, "plain", whole(b'/ipxe?serial=\x1b[2J\xff%0d%0a"\\'))
    for line in (web.work / "log/nginx-access.log").read_text(errors="surrogateescape").splitlines()[-500:]:
        assert line.isprintable() or "\udcff" in line, line
        assert isinstance(json.loads(line), dict), line


def test_no_canary_is_left_behind(canary: Canaries) -> None:
    assert all(isinstance(path, Path) and path.exists() for path in canary.paths)
