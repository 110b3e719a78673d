"""What a boot costs the appliance: processor time per /ipxe and per /ignition, in a small rack and a large one."""

import http.client
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import wrk
from benchmarks.appliances import ADDRESS, Appliance, appliance
from benchmarks.comparison import Benchmark, Figure, Figures, Ratio, Side
from benchmarks.racks import mac_of

SMALL, LARGE = 10, 10_000
CONNECTIONS, SECONDS = 16, 2
SAMPLE = 5  # machines whose fetch is looked up in the store each round
RECORDED_SECONDS = 5.0
_PATHS = {
    "ipxe": "'/ipxe?mac=' .. mac .. '&platform=efi&arch=x86_64'",
    "ignition": "'/v1/ignition/' .. mac",
}
_LUA = """
local known = %d
request = function()
    local number = math.random(0, known - 1)
    local mac = string.format('52-54-00-%%02x-%%02x-%%02x',
        math.floor(number / 65536), math.floor(number / 256) %% 256, number %% 256)
    return wrk.format('GET', %s)
end
"""


@contextmanager
def prepare(folder: Path) -> Iterator[Mapping[str, Side]]:
    """Start two appliances; machines ask for their documents at random."""
    with ExitStack() as stack:
        sides = {}
        for count in (SMALL, LARGE):
            place = folder / str(count)
            place.mkdir()
            served = stack.enter_context(appliance(place, count))
            scripts = {name: wrk.script(place, name, _LUA % (count, path)) for name, path in _PATHS.items()}
            sides[f"{count:,} machines"] = partial(_round, served, count, scripts)
        yield sides


def _round(served: Appliance, count: int, scripts: Mapping[str, Path]) -> Figures:
    figures = {"failed": 0.0, "unrecorded": _unrecorded(served, count)}
    for name, lua in scripts.items():
        before = served.processor_seconds()
        load = wrk.load(served.plain, lua, connections=CONNECTIONS, seconds=SECONDS)
        figures[name] = 1e6 * (served.processor_seconds() - before) / load.requests
        figures[f"{name} rate"] = load.rate
        figures["failed"] += load.failed
    return figures


def _unrecorded(served: Appliance, count: int) -> float:
    """Return how many fetches lacked an ETag, a 304, or a trace in the store."""
    macs = [mac_of(number) for number in random.sample(range(count), SAMPLE)]
    wrong = 0
    for mac in macs:
        for path in (f"/ipxe?mac={mac}&platform=efi&serial={time.time_ns()}", f"/v1/ignition/{mac}"):
            before = _trace(served, mac)
            wrong += not (_is_answered(served, path) and _leaves_trace(served, mac, before))
    return wrong


def _is_answered(served: Appliance, path: str) -> bool:
    """Return whether `path` is answered, and with 304 to who has it already if it is an Ignition document."""
    port = served.cluster.appliance.http_port
    with closing(http.client.HTTPConnection(ADDRESS, port, timeout=30)) as connection:
        connection.request("GET", path)
        first = connection.getresponse()
        body, tag = first.read(), first.headers.get("ETag")
        if first.status != http.HTTPStatus.OK or not body or not path.startswith("/v1/ignition"):
            return first.status == http.HTTPStatus.OK and bool(body)
        connection.request("GET", path, headers={"If-None-Match": tag or ""})
        again = connection.getresponse()
        again.read()
        return bool(tag) and again.status == http.HTTPStatus.NOT_MODIFIED


def _leaves_trace(served: Appliance, mac: str, before: object) -> bool:
    deadline = time.monotonic() + RECORDED_SECONDS
    while time.monotonic() < deadline:
        if _trace(served, mac) != before:
            return True
        time.sleep(0.02)
    return False


def _trace(served: Appliance, mac: str) -> object:
    """Return the revisions of all that the store keeps of a machine, its documents left out."""
    query = "SELECT key, revision FROM entries WHERE key IN (?, ?, ?) OR (key >= ? AND key < ?) ORDER BY key"
    keys = (f"machine/{mac}", f"fetch/{mac}", f"meta/log-length/{mac}")
    return served.rows(query, (*keys, f"machine-event/{mac}/", f"machine-event/{mac}0"))


def _per_request(name: str, label: str) -> Ratio:
    large, small = f"{LARGE:,} machines", f"{SMALL:,} machines"
    return Ratio(
        name=f"processor time per {label}",
        top=Figure(large, name),
        bottom=Figure(small, name),
        asked="<= 1.1",
        unit="us",
        why="a rack that is a thousand times as large must not make each answer dearer.",
    )


def _none(side: str, name: str, label: str) -> Ratio:
    return Ratio(name=f"{label}, {side}", top=Figure(side, name), asked="== 0")


BENCHMARK = Benchmark(
    name="boots",
    rounds=9,
    why=(
        "Processor time of all processes of the appliance per answer, random machines, 16 connections; each is "
        "looked up, decided, and recorded in the store."
    ),
    ratios=(
        _per_request("ipxe", "/ipxe"),
        _per_request("ignition", "/v1/ignition"),
        Ratio(
            name="answers per second, /ipxe",
            top=Figure(f"{LARGE:,} machines", "ipxe rate"),
            bottom=Figure(f"{SMALL:,} machines", "ipxe rate"),
            unit="/s",
        ),
        Ratio(
            name="answers per second, /v1/ignition",
            top=Figure(f"{LARGE:,} machines", "ignition rate"),
            bottom=Figure(f"{SMALL:,} machines", "ignition rate"),
            unit="/s",
        ),
        *(_none(f"{count:,} machines", "failed", "requests that failed") for count in (SMALL, LARGE)),
        *(
            _none(f"{count:,} machines", "unrecorded", "fetches without ETag, 304 or a record")
            for count in (SMALL, LARGE)
        ),
    ),
    prepare=prepare,
)
