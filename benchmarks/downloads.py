"""Images and small answers together: slow downloads must not delay boots, and fast ones go at nginx's own speed."""

import http.client
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import wrk
from benchmarks.appliances import ADDRESS, ROOT, Appliance, appliance, free_port, stop
from benchmarks.comparison import Benchmark, Figure, Figures, Ratio, Side

MACHINES = 100
DISK_BYTES = 256 * 2**20
SLOW, SMALL_CLIENTS, FAST = 256, 8, 16
SECONDS = 4
RANGES = 40
LONGEST_RANGE = 200_000
_LUA = """
request = function()
    local mac = string.format('52-54-00-00-00-%%02x', math.random(0, %d))
    return wrk.format('GET', '/v1/ignition/' .. mac)
end
"""
_BARE = """
daemon off;
user root;
worker_processes auto;
pid {folder}/bare.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    server {{ listen {address}:{port}; root {root}; }}
}}
"""


@contextmanager
def prepare(folder: Path) -> Iterator[Mapping[str, Side]]:
    """Start the appliance, and an nginx with the shortest configuration that serves the same file."""
    with ExitStack() as stack:
        served = stack.enter_context(appliance(folder / "ours", MACHINES, disk_bytes=DISK_BYTES))
        port = stack.enter_context(_bare_nginx(folder, served.work / "run" / "artifacts"))
        lua = wrk.script(folder, "small", _LUA % (MACHINES - 1))
        name = served.image.disk.sha256
        ours = partial(_drained, served.cluster.appliance.http_port, served.artifact)
        yield {
            "idle": partial(_small, served, lua),
            f"{SLOW} slow downloads": partial(_small_beside_slow, served, lua),
            "bare nginx": partial(_drained, port, f"/sha256/{name}"),
            "ours": lambda: {**ours(), **_ranges(served)},
        }


@contextmanager
def _bare_nginx(folder: Path, artifacts: Path) -> Iterator[int]:
    port = free_port()
    config = folder / "bare.conf"
    config.write_text(_BARE.format(folder=folder, address=ADDRESS, port=port, root=artifacts.resolve()))
    # A session of its own, as ours has: Linux shares processors between sessions first (sched(7), autogroup).
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", "stderr"], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            if time.monotonic() > deadline:
                raise RuntimeError("the bare nginx does not listen")
            time.sleep(0.05)
        yield port
    finally:
        stop(process)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as speaker:
        return speaker.connect_ex((ADDRESS, port)) == 0


def _small(served: Appliance, lua: Path) -> Figures:
    load = wrk.load(served.plain, lua, connections=SMALL_CLIENTS, seconds=SECONDS)
    return {"p99": load.p99, "rate": load.rate, "failed": load.failed}


def _small_beside_slow(served: Appliance, lua: Path) -> Figures:
    """Measure small answers while SLOW clients read; a download that broke off or stands still has failed."""
    command = _client("slow", served.cluster.appliance.http_port, served.artifact, SLOW)
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as slow:
        try:
            assert slow.stdin is not None  # noqa: S101  # a pipe was asked for
            assert slow.stdout is not None  # noqa: S101
            if slow.stdout.readline() != "reading\n":
                raise RuntimeError("the slow downloads did not begin")
            figures = dict(_small(served, lua))
            slow.stdin.close()
            figures["broken"] = float(slow.stdout.readline())
            return figures
        finally:
            slow.kill()


def _drained(port: int, path: str) -> Figures:
    """Return how many MB per second FAST clients get together."""
    command = [*_client("fast", port, path, FAST), str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    return {"rate": float(done.stdout) / 1e6}


def _client(kind: str, port: int, path: str, clients: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.downloaders", kind, ADDRESS, str(port), path, str(clients)]


def _ranges(served: Appliance) -> Figures:
    """Return how many of some random ranges were not answered 206 with exactly those bytes."""
    wrong = 0
    disk = served.work / "run" / "artifacts" / "sha256" / served.image.disk.sha256
    port = served.cluster.appliance.http_port
    with (
        closing(http.client.HTTPConnection(ADDRESS, port, timeout=30)) as connection,
        disk.open("rb") as file,
    ):
        for _ in range(RANGES):
            first = random.randrange(DISK_BYTES)  # noqa: S311  # no secret
            last = min(DISK_BYTES, first + random.randint(1, LONGEST_RANGE)) - 1  # noqa: S311  # no secret
            connection.request("GET", served.artifact, headers={"Range": f"bytes={first}-{last}"})
            answer = connection.getresponse()
            body = answer.read()
            file.seek(first)
            is_whole = answer.headers["Content-Range"] == f"bytes {first}-{last}/{DISK_BYTES}"
            is_right = is_whole and body == file.read(last - first + 1)
            wrong += not (answer.status == http.HTTPStatus.PARTIAL_CONTENT and is_right)
    return {"wrong ranges": wrong}


BENCHMARK = Benchmark(
    name="downloads",
    why=(
        f"An image of {DISK_BYTES >> 20} MiB: {SLOW} clients that take 64 KiB every 0.1 s while others ask for "
        f"their documents, and {FAST} clients that take all they can."
    ),
    rounds=7,
    ratios=(
        Ratio(
            name=f"p99 of small answers during {SLOW} slow downloads, against idle",
            top=Figure(f"{SLOW} slow downloads", "p99"),
            bottom=Figure("idle", "p99"),
            asked="<= 1.5",
            unit="ms",
            why="a rack that downloads its images must not keep the next one from booting (the goal is 1.2).",
        ),
        Ratio(
            name="small answers per second, likewise",
            top=Figure(f"{SLOW} slow downloads", "rate"),
            bottom=Figure("idle", "rate"),
            unit="/s",
        ),
        Ratio(
            name=f"throughput to {FAST} clients, against a bare nginx",
            top=Figure("ours", "rate"),
            bottom=Figure("bare nginx", "rate"),
            asked=">= 0.95",
            unit="MB/s",
            why="what we ask of nginx beyond serving files must not slow the files.",
        ),
        Ratio(
            name="small answers that failed",
            top=Figure(f"{SLOW} slow downloads", "failed"),
            asked="== 0",
        ),
        Ratio(
            name="slow downloads that broke off or stood still",
            top=Figure(f"{SLOW} slow downloads", "broken"),
            asked="== 0",
        ),
        Ratio(
            name="ranges not answered with 206 and exactly those bytes",
            top=Figure("ours", "wrong ranges"),
            asked="== 0",
            why="the installer resumes where it was cut off.",
        ),
    ),
    prepare=prepare,
)
