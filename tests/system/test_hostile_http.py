"""Promise S-06: any request to any route is answered, never with 500, never with a traceback, never with silence."""

import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.system.hostile_wire import LISTENERS, answer_from, tell
from tests.system.web_bench import Appliance, appliance
from tests.tier import Promise, dice, rounds, seed
from tests.unit.hostile.requests import request

pytestmark = [pytest.mark.system, pytest.mark.promise]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


def test_two_thousand_requests_of_all_kinds(web: Appliance, promise: Promise) -> None:
    random, done, count = dice("http"), Counter[int](), rounds(2000, 50_000)
    for _ in range(count):
        listener, asked = request(random)
        try:
            answer = answer_from(tell(web, listener, asked))
        except TimeoutError:
            pytest.fail(f"no answer on {listener} to {asked[:2000]!r}")
        assert answer.status != 500, (listener, asked[:3000], answer)
        assert answer.status != 502, (listener, asked[:3000], answer)
        done[answer.status or 0] += 1
    assert done[200] > count / 20, done
    log = web.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:4000]
    assert "our failure" not in log
    assert web.operator.is_ready()
    promise(
        promise="S-06 HTTP",
        asked="every route, any method, body, header: never 500, a traceback or a hang",
        done=f"{count} requests on {len(LISTENERS)} listeners",
        found=f"answers {dict(sorted(done.items()))}, 0 tracebacks; the appliance is ready after it",
        seed=seed(),
    )


def test_a_client_that_leaves_in_the_middle_harms_nobody(web: Appliance) -> None:
    random = dice("leaves")
    for _ in range(rounds(200, 2000)):
        _, asked = request(random)
        with socket.create_connection(("127.77.0.1", web.http_port), timeout=5) as wire:
            wire.sendall(asked[: random.randrange(len(asked))])
    assert web.plain("GET", "/livez").status == 200
    assert web.operator.is_ready()
