"""Machines that report while the disk fails under the appliance, and the look at the store afterwards.

What a machine was told (200 and the number of an event) is compared with what the store's file holds when all is
over: each acknowledged event is there, under its number, with its text. Each event has a text of its own.
"""

import http.client
import json
import sqlite3
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap.model import Cluster
from tests.system import web_bench
from tests.unit.web.fakes import cluster as small_cluster

FACTS = "/v1/machine/events"
PAUSE_SECONDS = 0.02  # a machine's next report; far below what the server allows one machine
SULK_SECONDS = 0.2  # after a refusal; real machines wait as Retry-After says
CUT = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Told:
    """One report and its answer; `status` is 0 if none came."""

    mac: str
    text: str
    status: int
    seq: int = 0
    retry_after: str = ""
    reason: str = ""


@dataclass
class History:
    """What all machines told, in the order of the answers."""

    told: list[Told] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def note(self, told: Told) -> None:
        """Add one answer."""
        with self._turn:
            self.told.append(told)

    def acknowledged(self) -> list[Told]:
        """Return what was answered 200."""
        return [told for told in self.told if told.status == 200]

    def statuses(self) -> Counter[int]:
        """Count the answers by status."""
        return Counter(told.status for told in self.told)

    def since(self, number: int) -> "History":
        """Return the answers after the first `number`."""
        return History(self.told[number:])


def macs(count: int) -> tuple[str, ...]:
    """Return the MAC addresses of the crowd."""
    return tuple(f"52:54:00:ab:{number >> 8:02x}:{number & 255:02x}" for number in range(count))


def crowd(count: int, appliance: dict[str, object]) -> Cluster:
    """Return a cluster of `count` machines that arm themselves, with the section `appliance`."""
    listed = [{"name": f"m{number}", "mac": mac} for number, mac in enumerate(macs(count))]
    document = small_cluster(*listed).model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    return Cluster.model_validate({**document, "appliance": appliance})


Post = Callable[[str, dict[str, str]], Told]


def report_of(mac: str, arm: str, text: str) -> dict[str, object]:
    """Return a report that becomes an event whatever the machine's state is; `text` comes back as its detail."""
    return {"mac": mac, "arm": arm, "kind": "facts", "message": text, "facts": {"serial": text}}


@dataclass
class Machine:
    """One simulated machine: reports over one HTTPS connection, which it makes anew when it breaks."""

    host: str
    port: int
    trust: ssl.SSLContext
    mac: str
    arm: str
    history: History
    _sent: int = 0
    _connection: http.client.HTTPSConnection | None = None

    def tell(self) -> Told:
        """Send one report and note the answer."""
        self._sent += 1
        text = f"{self.mac} {self._sent} {time.monotonic_ns()}"
        try:
            told = self._post(text)
        except CUT:
            self.hang_up()
            told = Told(self.mac, text, 0)
        self.history.note(told)
        return told

    def hang_up(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _post(self, text: str) -> Told:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=20, context=self.trust
            )
        self._connection.request("POST", FACTS, json.dumps(report_of(self.mac, self.arm, text)))
        response = self._connection.getresponse()
        return told_from(self.mac, text, response.status, dict(response.getheaders()), response.read())


def told_from(mac: str, text: str, status: int, headers: dict[str, str], body: bytes) -> Told:
    """Return an answer as it is noted."""
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    again = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return Told(mac, text, status, said.get("seq", 0), again, said.get("reason", ""))


@contextmanager
def reporting(machines: Sequence[Machine]) -> Iterator[None]:
    """Let all machines report without end while the body runs."""
    stop = threading.Event()

    def live(machine: Machine) -> None:
        while not stop.is_set():
            told = machine.tell()
            stop.wait(PAUSE_SECONDS if told.status == 200 else SULK_SECONDS)
        machine.hang_up()

    threads = [threading.Thread(target=live, args=[machine], daemon=True) for machine in machines]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


@dataclass(frozen=True)
class Stored:
    """What the file of the store holds: the events by number, and the number of the last one."""

    integrity: str
    events: dict[int, tuple[str, str]]
    last: int

    def lost(self, history: History) -> list[Told]:
        """Return the acknowledged reports that are not there as they were acknowledged."""
        return [
            told for told in history.acknowledged() if self.events.get(told.seq, ("", ""))[1] != told.text
        ]

    def gaps(self, after: int = 0) -> list[int]:
        """Return the numbers above `after` under which nothing stands."""
        return [seq for seq in range(after + 1, self.last + 1) if seq not in self.events]


def stored(database: Path) -> Stored:
    """Open the file with bare SQLite, as recovery would, and read all of it."""
    connection = sqlite3.connect(database)
    try:
        integrity = "; ".join(row[0] for row in connection.execute("PRAGMA integrity_check"))
        rows = connection.execute("SELECT key, value FROM entries WHERE key LIKE 'event/%'").fetchall()
        last = connection.execute("SELECT value FROM entries WHERE key = 'meta/last-event'").fetchone()
    finally:
        connection.close()
    events = {}
    for key, value in rows:
        event = json.loads(value)
        events[int(key.rpartition("/")[2])] = (event.get("machine", ""), event.get("detail", ""))
    return Stored(integrity, events, int(last[0]) if last else 0)


def hold(found: Stored, history: History, *, after: int = 0) -> None:
    """Assert that the file is whole and holds every acknowledged event, each once, without gaps above `after`."""
    assert found.integrity == "ok"
    lost = found.lost(history)
    assert not lost, f"{len(lost)} of {len(history.acknowledged())} acknowledged events lost: {lost[:3]}"
    assert not found.gaps(after), found.gaps(after)[:5]
    numbers = [told.seq for told in history.acknowledged()]
    assert len(numbers) == len(set(numbers)), "a number was given twice"
    assert max(found.events, default=0) == found.last


def crew_of(web: web_bench.Appliance, history: History) -> list[Machine]:
    """Return a simulated machine for each that the running appliance has armed."""
    armed = web.operator.machines()
    trust = web.context()
    return [
        Machine(web_bench.ADDRESS, web.https_port, trust, one["mac"], one["arm"], history) for one in armed
    ]


@contextmanager
def appliance(folder: Path, count: int) -> Iterator[web_bench.Appliance]:
    """Run the appliance for `count` machines in `folder`/work, which may be a mount, and end it."""
    work, cache, log = folder / "work", folder / "cache", folder / "web.log"
    work.mkdir(mode=0o700, exist_ok=True)
    ports = {"httpPort": web_bench.free_port(), "httpsPort": web_bench.free_port()}
    on_loopback = {"interface": "lo", "address": f"{web_bench.ADDRESS}/24", "dhcp": {"mode": "off"}, **ports}
    cluster = crowd(count, on_loopback)
    web_bench.render(cluster, work)
    image = web_bench.make_image(folder, cache)
    web = web_bench.Appliance(work, cache, cluster, image, web_bench.start(work, cache, log), log)
    try:
        web.await_ready()
        yield web
    finally:
        stop(web)


def stop(web: web_bench.Appliance) -> None:
    """End the appliance if it runs."""
    if web.process.poll() is None:
        web_bench.end(web.process)


def start_again(web: web_bench.Appliance) -> None:
    """Start an appliance that was stopped, without waiting for it."""
    web.process = web_bench.start(web.work, web.cache, web.log)


def application_of(web: web_bench.Appliance) -> list[int]:
    """Return the processes that hold the store."""
    found = web_bench.children_of(web.process.pid)
    return [pid for pid in found if b"web.server" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@contextmanager
def mounted(kind: str, folder: Path, *options: str) -> Iterator[Path]:
    """Mount a new file system of `kind` at `folder` while the body runs."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command("mount", "-t", kind, *options, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=False, capture_output=True)


def command(*argv: str) -> str:
    """Run a command that must succeed and return what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def disk(image: Path, mebibytes: int) -> Path:
    """Make an ext4 in the file `image`."""
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    command("mke2fs", "-q", "-t", "ext4", str(image))
    return image


@contextmanager
def attached(image: Path) -> Iterator[str]:
    """Yield a new block device that is the file `image` while the body runs.

    A device of an earlier mount may still be in use: each `ip netns exec` on this computer takes a copy of all mounts
    along, which lives until its program ends.
    """
    device = command("losetup", "--find", "--show", str(image)).strip()
    try:
        yield device
    finally:
        command("losetup", "--detach", device)
