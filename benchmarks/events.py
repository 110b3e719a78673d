"""What machines report: how many events per second are acknowledged, each of them durable, and how long one waits."""

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import keep_alive, wrk
from benchmarks.appliances import Appliance, appliance
from benchmarks.comparison import Benchmark, Figure, Figures, Ratio, Side
from benchmarks.disks import log_writes_per_second, overwrites_per_second

MACHINES = 3_000  # so many that none reports more often than a machine may
CLIENTS, SECONDS = 64, 5
SYNC_SECONDS = 1.5
ONE_BY_ONE = ("-m", "benchmarks.one_by_one")
_SEQ = re.compile(rb'"seq": ?(\d+)')
_LUA = """
local machines = {}
for line in io.lines('%(arms)s') do machines[#machines + 1] = line end
local acknowledged
init = function() acknowledged = io.open('%(seqs)s', 'w') end
local told = 0
request = function()
    told = told + 1
    local body = string.format('{%%s,"kind":"facts","message":"report %%d"}', machines[math.random(#machines)], told)
    return wrk.format('POST', '/v1/machine/events', {['Content-Type'] = 'application/json'}, body)
end
response = function(status, headers, body)
    if status == 200 then acknowledged:write(string.match(body, '"seq": ?(%%d+)') or 'none', '\\n') end
end
"""


@contextmanager
def prepare(folder: Path) -> Iterator[Mapping[str, Side]]:
    """Start the appliance, and one that commits event by event."""
    with ExitStack() as stack:
        places = {name: folder / name for name in ("grouped", "singly")}
        for place in places.values():
            place.mkdir()
        grouped = stack.enter_context(appliance(places["grouped"], MACHINES))
        singly = stack.enter_context(appliance(places["singly"], MACHINES, program=ONE_BY_ONE))
        yield {
            "disk": partial(_disk, folder),
            "HTTPS": partial(_over_tls, grouped, _script(grouped, places["grouped"]), places["grouped"]),
            "web socket": partial(_at_socket, grouped, _requests(grouped)),
            "one by one": partial(_over_tls, singly, _script(singly, places["singly"]), places["singly"]),
        }


def _disk(folder: Path) -> Figures:
    return {
        "log": log_writes_per_second(folder),
        "in place": overwrites_per_second(folder, SYNC_SECONDS),
    }


def _script(served: Appliance, place: Path) -> Path:
    lines = [f'"mac":"{mac}","arm":"{arm}"' for mac, arm in served.arms()]
    (place / "arms").write_text("\n".join(lines) + "\n")
    return wrk.script(place, "events", _LUA % {"arms": place / "arms", "seqs": place / "seqs"})


def _over_tls(served: Appliance, lua: Path, place: Path) -> Figures:
    """Report as machines do: nginx, TLS, the application."""
    load = wrk.load(served.secure, lua, connections=CLIENTS, seconds=SECONDS)
    seqs = (place / "seqs").read_text().split()
    return {"rate": load.rate, "p99": load.p99, "failed": load.failed, "lost": _lost(served, seqs)}


def _at_socket(served: Appliance, request: Callable[[], bytes]) -> Figures:
    """Report to the application itself."""
    answers = keep_alive.load(served.socket, request, connections=CLIENTS, seconds=SECONDS)
    found = [_SEQ.search(body) for body in answers.bodies]
    seqs = [match[1].decode() if match else "none" for match in found]
    rate = len(answers.bodies) / answers.passed
    return {
        "rate": rate,
        "p99": answers.percentile(99),
        "failed": answers.failed,
        "lost": _lost(served, seqs),
    }


def _requests(served: Appliance) -> Callable[[], bytes]:
    arms, number = served.arms(), itertools.count()

    def request() -> bytes:
        mac, arm = random.choice(arms)  # noqa: S311  # no secret
        report = {"mac": mac, "arm": arm, "kind": "facts", "message": f"report {next(number)}"}
        body = json.dumps(report).encode()
        head = (
            "POST /v1/machine/events HTTP/1.1\r\nHost: bench\r\nX-Firstlight-Listener: machine\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    return request


def _lost(served: Appliance, seqs: Sequence[str]) -> float:
    """Return how many acknowledgements name no event, one that is not in the store, or one that another named."""
    keys = served.rows("SELECT key FROM entries WHERE key >= 'event/' AND key < 'event0'")
    stored = {int(str(row[0]).rpartition("/")[2]) for row in keys}
    good = {int(seq) for seq in seqs if seq.isdigit()} & stored
    return len(seqs) - len(good)


def _none(name: str, label: str) -> list[Ratio]:
    sides = ("HTTPS", "web socket", "one by one")
    return [Ratio(name=f"{label}, {side}", top=Figure(side, name), asked="== 0") for side in sides]


BENCHMARK = Benchmark(
    name="events",
    why=(
        f"{CLIENTS} keep-alive connections report facts of random machines. An answer is an acknowledgement: it "
        "carries the number of an event that is on the disk. The disk's own rate is what fio finds for a log: 4 KiB at "
        "the end of a file, fdatasync, and again. The same in place, one block over and over, spares the file system "
        "its own notes; it is there to compare."
    ),
    rounds=7,
    ratios=(
        Ratio(
            name="events per second over HTTPS, against the disk's fdatasync rate",
            top=Figure("HTTPS", "rate"),
            bottom=Figure("disk", "log"),
            asked=">= 0.5",
            unit="/s",
            why="an acknowledged event survives a power cut; it should not cost more than that takes.",
        ),
        Ratio(
            name="events per second over HTTPS, against fdatasync in place",
            top=Figure("HTTPS", "rate"),
            bottom=Figure("disk", "in place"),
            unit="/s",
            why="the file system has nothing to note down then. Ours is written in place too (ADR 12): the rest of the "
            "time is that of one Python interpreter.",
        ),
        Ratio(
            name="events per second at the web socket, against the disk's fdatasync rate",
            top=Figure("web socket", "rate"),
            bottom=Figure("disk", "log"),
            unit="/s",
            why="the same without nginx and TLS.",
        ),
        Ratio(
            name="p99 of one transaction per event, against ours",
            top=Figure("one by one", "p99"),
            bottom=Figure("HTTPS", "p99"),
            asked=">= 5",
            unit="ms",
            why="writers that sleep and try again starve; in a group commit nobody waits for more than two syncs.",
        ),
        Ratio(
            name="events per second, one transaction per event, against ours",
            top=Figure("one by one", "rate"),
            bottom=Figure("HTTPS", "rate"),
            unit="/s",
        ),
        *_none("failed", "requests that failed"),
        *_none("lost", "acknowledgements without an event in the store"),
    ),
    prepare=prepare,
)
