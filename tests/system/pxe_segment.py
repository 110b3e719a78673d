"""Two computers on one cable: network namespaces with a real pxe on one side and a client on the other."""

import ctypes
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from bootstrap import config
from bootstrap.keys import ensure_keys
from bootstrap.model import Cluster
from bootstrap.render.bundle import render_bundle

ROOT = Path(__file__).resolve().parents[2]
CLONE_NEWNET = 0x40000000
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1  # linux/if_packet.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_NUMBERS = itertools.count(1)
_XIDS = itertools.count(0x1001)
"""Of all clients: an answer that comes late is not taken for one to a question of the next client."""
ANSWER_SECONDS = 5.0
SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
KNOWN_MAC, KNOWN_ADDRESS = "52:54:00:77:00:01", "10.77.0.101"
CONFIG = """
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {{name: bench}}
kubernetes: {{version: v1.36.4, controlPlaneEndpoint: "10.77.0.10:6443", cni: {{plugin: none}}}}
controlPlane: {{hosts: [{{name: m1, address: 10.77.0.10}}]}}
etcd: {{members: [m1]}}
appliance:
  interface: {interface}
  address: {address}
  dhcp: {dhcp}
pools:
  - name: workers
    os: {{family: debian, release: "13"}}
    disk: {{select: {{type: virtio}}}}
machines:
  - {{name: w1, mac: "52:54:00:77:00:01", pool: workers, address: 10.77.0.101}}
"""
SERVER_MODE = "{mode: server, range: [10.77.0.150, 10.77.0.199]}"


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=60)


def wait_for(question: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Return whether `question` became true in time."""
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Have this thread's new sockets belong to `namespace`."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        assert libc.setns(other, CLONE_NEWNET) == 0
        yield
    finally:
        assert libc.setns(own, CLONE_NEWNET) == 0
        os.close(own)
        os.close(other)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The cable: interface srv0 in namespace `server`, interface cli0 in namespace `client`."""

    server: str
    client: str

    def in_client(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the client's side; a failure is the caller's to judge."""
        return run("ip", "netns", "exec", self.client, *argv, check=False)

    def pids(self, namespace: str) -> tuple[int, ...]:
        """Return the processes of a namespace."""
        return tuple(int(pid) for pid in run("ip", "netns", "pids", namespace).stdout.split())


@contextmanager
def segment() -> Iterator[Segment]:
    """Lay the cable and take it away again."""
    number = f"{os.getpid()}-{next(_NUMBERS)}"
    made = Segment(server=f"flpxe-s{number}", client=f"flpxe-c{number}")
    for namespace in (made.server, made.client):
        run("ip", "netns", "add", namespace)
    try:
        run(
            "ip",
            "link",
            "add",
            "srv0",
            "netns",
            made.server,
            "type",
            "veth",
            "peer",
            "cli0",
            "netns",
            made.client,
        )
        for namespace, name, address in ((made.server, "srv0", SERVER), (made.client, "cli0", CLIENT)):
            run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", name)
            run("ip", "-n", namespace, "link", "set", name, "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        yield made
    finally:
        for namespace in (made.server, made.client):
            for pid in made.pids(namespace):
                os.kill(pid, signal.SIGKILL)
            run("ip", "netns", "delete", namespace, check=False)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A work folder with everything rendered, and a runtime folder that dnsmasq can reach."""

    work: Path
    runtime: Path
    cluster: Cluster

    @property
    def conf(self) -> Path:
        """Return the rendered dnsmasq.conf."""
        return self.work / "bundle" / "pxe" / "dnsmasq.conf"

    def start(self, where: Segment, *options: str) -> "Pxe":
        """Start `python -m pxe` on the server's side, with a current folder that is not the checkout."""
        argv = (
            sys.executable,
            "-m",
            "pxe",
            "--work",
            str(self.work),
            "--runtime",
            str(self.runtime),
            *options,
        )
        log = self.work / f"pxe-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ("ip", "netns", "exec", where.server, *argv),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return Pxe(bench=self, process=process, log=log)


@dataclass(frozen=True, kw_only=True)
class Pxe:
    """A running pxe process."""

    bench: Bench
    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """Return what it has logged."""
        return self.log.read_text()

    def await_ready(self) -> None:
        """Wait until dnsmasq serves."""
        ready = self.bench.work / "run" / "pxe.ready"
        own = f"{self.process.pid}\n"

        def is_ready() -> bool:
            return (ready.exists() and ready.read_text() == own) or self.process.poll() is not None

        assert wait_for(is_ready, 30), self.text()
        assert self.process.poll() is None, self.text()

    def dnsmasq_pid(self) -> int | None:
        """Return the dnsmasq that is its child now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        named = (pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "dnsmasq\n")
        return next((int(pid) for pid in named), None)

    def end(self) -> int:
        """Tell it to end; return its exit status."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Return its exit status."""
        return self.process.wait(15)


@contextmanager
def bench(
    tmp: Path,
    *,
    interface: str = "srv0",
    address: str = f"{SERVER}/24",
    dhcp: str = SERVER_MODE,
    machines: str = "",
) -> Iterator[Bench]:
    """Render a cluster into a work folder, with real keys; `machines` are more lines of that list."""
    source = tmp / "config.yaml"
    source.write_text(CONFIG.format(interface=interface, address=address, dhcp=dhcp) + machines)
    cluster = config.load([source])
    work = tmp / "work"
    work.mkdir(mode=0o700)
    keyring = ensure_keys(cluster, work, datetime.now(UTC)).keyring
    for path, file in render_bundle(cluster, keyring.public).items():
        target = work / "bundle" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
    runtime = Path(tempfile.mkdtemp(prefix="firstlight-test-", dir="/run"))
    try:
        yield Bench(work=work, runtime=runtime, cluster=cluster)
    finally:
        shutil.rmtree(runtime)


Options = Sequence[tuple[str | int, object]]


class DhcpClient:
    """Asks DHCP questions by raw packets, under any MAC."""

    def __init__(self, where: Segment, interface: str = "cli0") -> None:
        self.interface = interface
        with inside(where.client):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        with inside(where.client):
            self._socket.bind((interface, 0x0800))
            # Some servers answer to the asking MAC, which is not the interface's.
            index = socket.if_nametoindex(interface)
        membership = struct.pack("@iHH8s", index, PACKET_MR_PROMISC, 0, bytes(8))  # struct packet_mreq
        self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        # Hundreds of answers may come while questions are still being sent.
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._xid = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, kind: str, mac: str, options: Options = (), *, seconds: float = 2.0) -> Packet | None:
        """Broadcast a message of `kind` and return the answer's BOOTP layer, or None."""
        return self._exchange(self._broadcast(kind, mac, options), 68, seconds)

    def ask_all(self, questions: Mapping[str, Options], *, seconds: float = 2.0) -> dict[str, Packet]:
        """Broadcast a DISCOVER with these options under each MAC; return the answers of those who got one.

        It ends when no answer came for `seconds`.
        """
        macs = {}
        for mac, options in questions.items():
            self._socket.send(bytes(self._broadcast("discover", mac, options)))
            macs[self._xid] = mac
        answers: dict[str, Packet] = {}
        self._socket.settimeout(seconds)
        while len(answers) < len(questions):
            try:
                answer = Ether(self._socket.recv(65535))
            except TimeoutError:
                break
            if BOOTP in answer and answer[BOOTP].op == 2 and answer[BOOTP].xid in macs:
                answers.setdefault(macs[answer[BOOTP].xid], answer[BOOTP])
        return answers

    def ask_each(self, mac: str, options: Options, *, seconds: float = 0.7) -> list[Packet]:
        """Broadcast one DISCOVER and return every answer to it: the first, and what comes within `seconds` after it.

        A server that writes its leases to a busy disk takes its time: the first may be ANSWER_SECONDS away.
        """
        self._socket.send(bytes(self._broadcast("discover", mac, options)))
        answers: list[Packet] = []
        deadline = time.monotonic() + ANSWER_SECONDS
        while (answer := self._next(68, deadline)) is not None:
            answers.append(answer)
            deadline = min(deadline, time.monotonic() + seconds)
        return answers

    def ask_boot_server(
        self, mac: str, options: Options, server_mac: str, source: str = CLIENT
    ) -> Packet | None:
        """Send a REQUEST to the PXE boot server's port 4011, as UEFI does after a proxyDHCP offer.

        `source` is the machine's address; `server_mac` is that of the server, or of the router to it.
        """
        frame = (
            Ether(src=mac, dst=server_mac)
            / IP(src=source, dst=SERVER)
            / UDP(sport=4011, dport=4011)
            / self._bootp(mac, ciaddr=source)
            / DHCP(options=[("message-type", "request"), *options, "end"])
        )
        return self._exchange(frame, 4011, 2.0)

    def renew(self, mac: str, address: str, router_mac: str) -> Packet | None:
        """Ask the server itself for more time, by way of the router; return its answer."""
        frame = (
            Ether(src=mac, dst=router_mac)
            / IP(src=address, dst=SERVER)
            / UDP(sport=68, dport=67)
            / self._bootp(mac, ciaddr=address)
            / DHCP(options=[("message-type", "request"), "end"])
        )
        return self._exchange(frame, 68, 2.0)

    @contextmanager
    def holding(self, where: Segment, address: str) -> Iterator[None]:
        """Have the client's side answer for `address`: what is sent to it must find its way."""
        run("ip", "-n", where.client, "address", "add", f"{address}/24", "dev", self.interface)
        try:
            yield
        finally:
            run("ip", "-n", where.client, "address", "delete", f"{address}/24", "dev", self.interface)

    def lease(self, mac: str, options: Options = ()) -> str:
        """Go through DISCOVER, OFFER, REQUEST and ACK; return the address."""
        offer = self.ask("discover", mac, options)
        assert offer is not None
        chosen = [("requested_addr", offer.yiaddr), ("server_id", SERVER), *options]
        acknowledged = self.ask("request", mac, chosen)
        assert acknowledged is not None
        assert option(acknowledged, "message-type") == 5
        return str(acknowledged.yiaddr)

    def _broadcast(self, kind: str, mac: str, options: Options) -> Packet:
        return (
            Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
            / IP(src="0.0.0.0", dst="255.255.255.255")
            / UDP(sport=68, dport=67)
            / self._bootp(mac)
            / DHCP(options=[("message-type", kind), *options, "end"])
        )

    def _bootp(self, mac: str, ciaddr: str = "0.0.0.0") -> Packet:
        self._xid = next(_XIDS)
        chaddr = bytes.fromhex(mac.replace(":", "")) + bytes(10)
        return BOOTP(chaddr=chaddr, xid=self._xid, flags=0x8000, ciaddr=ciaddr)

    def _exchange(self, frame: Packet, port: int, seconds: float) -> Packet | None:
        self._socket.send(bytes(frame))
        return self._next(port, time.monotonic() + seconds)

    def _next(self, port: int, deadline: float) -> Packet | None:
        """Return the next answer to the last question that comes to `port` in time."""
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                answer = Ether(self._socket.recv(65535))
            except TimeoutError:
                return None
            if UDP in answer and answer[UDP].dport == port:
                bootp = BOOTP(bytes(answer[UDP].payload))  # scapy takes only ports 67 and 68 for DHCP
                if bootp.op == 2 and bootp.xid == self._xid:
                    return bootp
        return None


def option(bootp: Packet, name: str | int) -> object:
    """Return the value of a DHCP option in the answer, or None."""
    found = (entry[1] for entry in bootp[DHCP].options if isinstance(entry, tuple) and entry[0] == name)
    return next(found, None)


def boot_file(bootp: Packet) -> str:
    """Return the file that a machine is told to fetch: the BOOTP field, else option 67; empty if none."""
    field = bytes(bootp.file).split(b"\0")[0]
    by_option = option(bootp, "boot-file-name")
    return (field or (bytes(by_option) if isinstance(by_option, bytes) else b"").rstrip(b"\0")).decode()
