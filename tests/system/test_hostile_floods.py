"""Promise S-06: slow clients and made-up machines by the thousand, and honest machines boot all the same."""

import http.client
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootstrap.operator import Operator
from bootstrap.records.strangers import MOST_STRANGERS
from tests.system import pxe_segment, web_bench
from tests.system.hostile_flood import PORT, SERVER, Dhcp
from tests.system.pxe_segment import ROOT, Bench, Pxe, Segment, bench, inside, segment
from tests.system.web_bench import children_of, wait_for
from tests.tier import Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise]

MACHINES = 20
PATIENCE_SECONDS = 90.0
GROWTH_MIB = 150
ROW = '  - {{name: n{0}, mac: "52:54:00:77:01:{0:02x}", pool: workers, address: 10.77.0.{1}}}\n'


@dataclass
class Rack:
    """Web and pxe on one side of the cable, everybody else on the other."""

    cable: Segment
    ground: Bench
    pxe: Pxe
    web: subprocess.Popen[bytes]
    log: Path
    image: Any
    peaks: dict[str, int] = field(default_factory=dict)

    @property
    def operator(self) -> Operator:
        return Operator(self.ground.work)

    def processes(self) -> dict[int, str]:
        """Return the processes of the appliance by what they are."""
        found = {
            pid: name_of(pid) for pid in (self.web.pid, *children_of(self.web.pid), self.pxe.process.pid)
        }
        return found | {pid: "dnsmasq" for pid in [self.pxe.dnsmasq_pid()] if pid}

    def memory_mib(self) -> dict[str, int]:
        """Return the resident memory of each process of the appliance."""
        return {f"{name} {pid}": rss_mib(pid) for pid, name in self.processes().items()}


def name_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return (
        "nginx"
        if words[0].startswith(b"nginx")
        else (words[words.index(b"-m") + 1].decode() if b"-m" in words else "?")
    )


def rss_mib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmRSS")), 0)


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    folder = tmp_path_factory.mktemp("floods")
    rows = "".join(ROW.format(number, 100 + number) for number in range(1, MACHINES + 1))
    with ExitStack() as stack:
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        text = pxe_segment.CONFIG.partition("machines:")[0].replace(
            'release: "13"', 'release: "13", kernel: cloud'
        )
        patched.setattr(
            pxe_segment, "CONFIG", f"{text}machines:\n{rows.replace('{', '{{').replace('}', '}}')}"
        )
        patched.setattr(web_bench, "IMAGE_BYTES", 16 << 20)
        cable, ground = stack.enter_context(segment()), stack.enter_context(bench(folder))
        image = web_bench.make_image(folder, folder / "cache")
        web = stack.enter_context(served(cable, ground.work, folder / "cache", folder / "web.log"))
        pxe = ground.start(cable, "--no-probe")
        stack.callback(pxe.end)
        pxe.await_ready()
        yield Rack(cable, ground, pxe, web, folder / "web.log", image)


@contextmanager
def served(cable: Segment, work: Path, cache: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run web on the server's side."""
    argv = (sys.executable, "-m", "web", "--work", str(work), "--cache", str(cache))
    with log.open("wb") as output:
        process = subprocess.Popen(
            ("ip", "netns", "exec", cable.server, *argv), cwd=ROOT, stdout=output, stderr=output
        )
    try:
        wait_for(Operator(work).is_ready, log.read_text)
        yield process
    finally:
        web_bench.end(process)


@contextmanager
def attack(rack: Rack, *words: object) -> Iterator[dict[str, int]]:
    """Run an attack in the meantime; what it counted is in the mapping afterwards."""
    counts: dict[str, int] = {}
    process = subprocess.Popen(
        (
            "ip",
            "netns",
            "exec",
            rack.cable.client,
            sys.executable,
            "-m",
            "tests.system.hostile_flood",
            *map(str, words),
        ),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield counts
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        counts.update(json.loads(out))
    finally:
        process.kill()
        process.wait()


@contextmanager
def watched(rack: Rack) -> Iterator[dict[str, int]]:
    """Look at the memory of all processes twice a second; the growth in MiB of each is in the mapping afterwards."""
    before, peaks, stop = rack.memory_mib(), dict[str, int](), threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            for name, size in rack.memory_mib().items():
                peaks[name] = max(peaks.get(name, 0), size)

    thread = threading.Thread(target=look)
    thread.start()
    grown: dict[str, int] = {}
    try:
        yield grown
    finally:
        stop.set()
        thread.join()
        grown.update({name: peak - before.get(name, 0) for name, peak in peaks.items()})


# --- an honest machine ------------------------------------------------------------------------------------


class Machine:
    """Boots and installs as the real ones do, asking again for what does not come."""

    def __init__(self, rack: Rack, number: int) -> None:
        self._rack, self._number = rack, number
        self.mac = f"52:54:00:77:01:{number:02x}"
        self._until = time.monotonic() + PATIENCE_SECONDS
        self._tls = ssl.create_default_context(
            cafile=str(rack.ground.work / "bundle/appliance/provisioning-ca.crt")
        )

    def boot(self) -> float:
        """Go from the first packet to the last report; return the seconds it took."""
        began = time.monotonic()
        with (
            inside(self._rack.cable.client),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as raw,
        ):
            raw.bind(("cli0", 0x0800))
            address = Dhcp(raw, bytes.fromhex(self.mac.replace(":", ""))).lease(
                PATIENCE_SECONDS, random.Random(self.mac)
            )
            assert address == f"10.77.0.{100 + self._number}", (self.mac, address)
            raw.close()
            self._install()
        return time.monotonic() - began

    def _install(self) -> None:
        assert b"/ipxe?mac=" in self._get("/boot.ipxe")
        script = self._get(f"/ipxe?mac={self.mac.replace(':', '-')}&platform=pcbios").decode()
        arm = script.partition("firstlight.arm=")[2].split()[0]
        kernel = next(line for line in script.splitlines() if line.startswith("kernel ")).split()[1]
        assert self._get(kernel.partition(f":{PORT}")[2]) == b"kernel"
        assert json.loads(self._get(f"/v1/ignition/{self.mac.replace(':', '-')}"))["ignition"]
        said = {"mac": self.mac, "arm": arm}
        self._post("/v1/machine/events", {**said, "kind": "facts", "facts": {"firmware": "bios"}})
        grant = self._post("/v1/machine/begin", {**said, "nonce": f"n{self._number}"})
        part = self._get(f"/artifacts/sha256/{grant['image']['sha256']}", {"Range": "bytes=1048576-5242879"})
        assert len(part) == 4 << 20
        self._post("/v1/machine/events", {**said, "kind": "progress", "stage": "write", "percent": 50})
        assert self._post("/v1/machine/events", {**said, "kind": "complete"})["seq"] > 0

    def _get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        return self._ask(
            lambda: http.client.HTTPConnection(SERVER, PORT, timeout=10), "GET", path, None, headers or {}
        )

    def _post(self, path: str, body: Any) -> Any:
        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPSConnection(SERVER, 8443, timeout=10, context=self._tls)

        return json.loads(self._ask(connect, "POST", path, json.dumps(body), {}))

    def _ask(self, connect: Any, method: str, path: str, body: str | None, headers: dict[str, str]) -> bytes:
        """Ask until there is an answer; a refusal is an answer, and here there may be none."""
        status, content = 0, b""
        while time.monotonic() < self._until:
            try:
                status, content = _once(connect(), method, path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                status, content = 0, str(error).encode()
            if status in {200, 206}:
                return content
            assert status in {0, 429, 502, 503}, (self.mac, path, status, content)
            time.sleep(0.5)
        raise AssertionError(f"{self.mac}: {path} did not come: {status} {content!r}")


def _once(
    connection: http.client.HTTPConnection, method: str, path: str, body: str | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def all_boot(rack: Rack) -> list[float]:
    """Arm every machine and have all boot at once; return how long each took."""
    for number in range(1, MACHINES + 1):
        rack.operator.act(f"n{number}", "arm")
    with ThreadPoolExecutor(MACHINES) as pool:
        return list(pool.map(lambda number: Machine(rack, number).boot(), range(1, MACHINES + 1)))


def test_honest_machines_boot_while_slow_clients_and_made_up_machines_attack(
    rack: Rack, promise: Promise
) -> None:
    seconds, rate = rounds(10, 60), 2000
    alone = max(all_boot(rack))
    path = f"/artifacts/sha256/{rack.image.disk.sha256}"
    repeats: list[float] = []
    with watched(rack) as grown, attack(rack, "loris", seconds + 5, 200, 200, path) as slow:
        time.sleep(3)  # until all of them are there
        with attack(rack, "macs", seconds, rate, dice("macs").getrandbits(32)) as made_up:
            until = time.monotonic() + seconds - 5
            while not repeats or time.monotonic() < until:
                repeats.append(max(all_boot(rack)))

    states = {machine["name"]: machine["state"] for machine in rack.operator.machines()}
    assert set(states.values()) == {"installed"}, states
    strangers = rack.operator.strangers()
    assert 0 < len(strangers) <= MOST_STRANGERS
    assert slow["most held"] >= 380, slow
    assert made_up["DISCOVER"] >= seconds * rate / 2, made_up
    assert max(grown.values()) < GROWTH_MIB, grown
    assert "Traceback" not in rack.log.read_text() + rack.pxe.text()
    worst = max(grown, key=lambda name: grown[name])
    rates = {what: f"{made_up[what] / seconds:.0f}/s" for what in ("DISCOVER", "answered 200")}
    promise(
        promise="S-06 slow loris and unknown MACs",
        asked="200 slow clients and 2,000 unknown MACs/s: 20 honest boots finish, memory bounded",
        done=f"{seconds} s: {slow['most held']} held (200 drip, 200 read slowly), DISCOVER {rates['DISCOVER']}, "
        f"/ipxe {rates['answered 200']}",
        found=f"{MACHINES * len(repeats)} boots with their own addresses, slowest {max(repeats):.1f} s (alone "
        f"{alone:.1f} s); memory +{grown[worst]} MiB at most ({worst.split()[0]}); {len(strangers)} strangers kept",
        seed=seed(),
    )


def test_the_appliance_is_as_before_after_the_attack(rack: Rack) -> None:
    assert rack.operator.is_ready()
    assert max(all_boot(rack)) < PATIENCE_SECONDS
