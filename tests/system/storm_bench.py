"""A rack of 10,000 machines on one cable: our pxe or Kea on one side, perfdhcp's thousands of clients on the other."""

import json
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

from bootstrap import config
from bootstrap.keys import ensure_keys
from bootstrap.model import Cluster
from bootstrap.render.dnsmasq import dnsmasq_conf
from pxe import urgent
from tests.system.pxe_segment import Bench, DhcpClient, Pxe, Segment, option, run, wait_for

RESERVATIONS, CLIENTS, PER_SECOND = 10_000, 4_000, 1_000
SERVER, CLIENT = "10.88.0.1", "10.88.0.2"
RELAY = "10.89.0.2"
"""perfdhcp speaks as a relay does: its own address is the one that it says the machines are behind (giaddr)."""
LISTED_MAC, UNLISTED_MAC = 0x525410000000, 0x5254AA000000
FIRST_RESERVED = IPv4Address("10.88.64.0")
# dnsmasq picks an address by a hash of the MAC. In this size 4,000 MACs in a row have a place each; in 16,384 they
# crowd, two are offered the same in one moment, and the second is refused when it asks for it, and begins anew.
RANGE = IPv4Address("10.88.128.0"), IPv4Address("10.88.191.71")
LEASE_SECONDS = 3600
LOST_SECONDS = 2  # perfdhcp asks once; what is not answered by then is lost
_CONFIG = """
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {name: storm}
kubernetes: {version: v1.36.4, controlPlaneEndpoint: "10.88.0.10:6443", cni: {plugin: none}}
controlPlane: {hosts: [{name: m1, address: 10.88.0.10}]}
etcd: {members: [m1]}
appliance:
  interface: srv0
  address: 10.88.0.1/16
  dhcp: DHCP
pools:
  - name: workers
    os: {family: debian, release: "13"}
    disk: {select: {type: virtio}}
machines:
"""
SERVER_MODE = "{mode: server, range: [10.88.128.0, 10.88.191.71]}"
_PCAP_HEADER, _RECORD = 24, struct.Struct("<IIII")
_ETHERNET, _PORT = 14, 67
_FIXED = 236  # bytes of a BOOTP message before its options (RFC 2131), which begin with a cookie of 4
_MESSAGE_TYPE, _ACK = 53, 5
_STATISTICS = re.compile(r"\*\*\*Statistics for: (\S+)\*\*\*(.*?)(?=\*\*\*|\Z)", re.DOTALL)


def mac_text(number: int) -> str:
    """Return a MAC with colons."""
    return number.to_bytes(6, "big").hex(":")


def reservations(first: IPv4Address = FIRST_RESERVED) -> Mapping[str, str]:
    """Return the address of each listed MAC, from `first` on.

    The order is shuffled, always in the same way: dnsmasq searches its list from one end, and those who storm must
    not all stand at the near one.
    """
    pairs = [(mac_text(LISTED_MAC + number), str(first + number)) for number in range(RESERVATIONS)]
    random.Random(0).shuffle(pairs)
    return dict(pairs)


@contextmanager
def cable() -> Iterator[Segment]:
    """Lay a cable between two namespaces: srv0 with SERVER, cli0 with CLIENT."""
    made = Segment(server=f"flstorm-s{os.getpid()}", client=f"flstorm-c{os.getpid()}")
    sides = ((made.server, "srv0", SERVER), (made.client, "cli0", CLIENT))
    for namespace, _, _ in sides:
        run("ip", "netns", "add", namespace)
    try:
        run(*f"ip link add srv0 netns {made.server} type veth peer cli0 netns {made.client}".split())
        for namespace, name, address in sides:
            run("ip", "-n", namespace, "address", "add", f"{address}/16", "dev", name)
            run("ip", "-n", namespace, "link", "set", name, "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", made.client, "address", "add", f"{RELAY}/16", "dev", "cli0")
        run("ip", "-n", made.server, "route", "add", "10.89.0.0/16", "via", CLIENT)
        yield made
    finally:
        for namespace, _, _ in sides:
            for pid in made.pids(namespace):
                os.kill(pid, signal.SIGKILL)
            run("ip", "netns", "delete", namespace, check=False)


def cluster_of(folder: Path, machines: Mapping[str, str], dhcp: str = SERVER_MODE) -> Cluster:
    """Return a cluster that lists `machines`, through a real config.yaml."""
    rows = (
        f'  - {{name: w{number}, mac: "{mac}", pool: workers, address: {address}}}\n'
        for number, (mac, address) in enumerate(machines.items())
    )
    source = folder / "config.yaml"
    source.write_text(_CONFIG.replace("DHCP", dhcp, 1) + "".join(rows))
    return config.load([source])


@contextmanager
def ground(folder: Path, cluster: Cluster) -> Iterator[Bench]:
    """Put what pxe reads into a work folder: the rendered dnsmasq.conf, the cluster, real keys."""
    work = folder / "work"
    work.mkdir(mode=0o700)
    public = ensure_keys(cluster, work, datetime.now(UTC)).keyring.public
    for path, content in (
        ("appliance/cluster.json", config.dump(cluster)),
        ("appliance/provisioning-ca.crt", public.certificates["provisioning/ca"]),
        ("pxe/dnsmasq.conf", dnsmasq_conf(cluster).encode()),
    ):
        (work / "bundle" / path).parent.mkdir(parents=True, exist_ok=True)
        (work / "bundle" / path).write_bytes(content)
    runtime = Path(tempfile.mkdtemp(prefix="firstlight-storm-", dir="/run"))
    try:
        yield Bench(work=work, runtime=runtime, cluster=cluster)
    finally:
        shutil.rmtree(runtime)


@contextmanager
def kea(where: Segment, folder: Path, machines: Mapping[str, str]) -> Iterator[None]:
    """Run Kea's DHCPv4 server with the same reservations, range and boot answer; leases in its memfile, on disk."""
    folder.mkdir()
    (folder / "kea.json").write_text(json.dumps({"Dhcp4": _kea_config(folder, machines)}))
    log = folder / "kea.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ("ip", "netns", "exec", where.server, "kea-dhcp4", "-c", str(folder / "kea.json")),
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                "KEA_PIDFILE_DIR": str(folder),
                "KEA_LOCKFILE_DIR": str(folder),
                "KEA_DHCP_DATA_DIR": str(folder),
            },
        )
    try:
        assert wait_for(lambda: "DHCP4_STARTED" in log.read_text(), 60), log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(30)


def _kea_config(folder: Path, machines: Mapping[str, str]) -> Mapping[str, object]:
    hosts = [{"hw-address": mac, "ip-address": address} for mac, address in machines.items()]
    return {
        "interfaces-config": {"interfaces": ["srv0"]},
        "lease-database": {"type": "memfile", "name": str(folder / "leases.csv")},
        "valid-lifetime": LEASE_SECONDS,
        "host-reservation-identifiers": ["hw-address"],
        "next-server": SERVER,
        "boot-file-name": "undionly.kpxe",
        "subnet4": [
            {
                "subnet": "10.88.0.0/16",
                "pools": [{"pool": f"{RANGE[0]}-{RANGE[1]}"}],
                "reservations": hosts,
                "reservations-in-subnet": True,
                "reservations-out-of-pool": True,
            }
        ],
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
    }


@dataclass(frozen=True, kw_only=True)
class Storm:
    """What perfdhcp counted: exchanges begun, offers and acknowledgements; the worst waits in milliseconds."""

    sent: int
    offered: int
    acknowledged: int
    worst_offer: float
    worst_ack: float
    text: str

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.acknowledged:,} of {self.sent:,}, worst offer {self.worst_offer:.1f} ms"


def storm(
    where: Segment,
    first_mac: int,
    clients: int,
    per_second: int = PER_SECOND,
    *,
    source: str = CLIENT,
    options: Sequence[str] = (),
) -> Storm:
    """Have as many clients, each with a MAC of its own, ask for a lease once.

    `source` is the relay's address; `options` are more of perfdhcp's.
    """
    return end_storm(begin_storm(where, first_mac, clients, per_second, source=source, options=options))


def end_storm(begun: subprocess.Popen[str]) -> Storm:
    """Wait for its end and return what came of it."""
    text, _ = begun.communicate(timeout=90)
    return storm_in(text)


def begin_storm(
    where: Segment,
    first_mac: int,
    clients: int,
    per_second: int,
    *,
    source: str = CLIENT,
    options: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Start `clients` exchanges at `per_second`, and do not wait for their end.

    4,000 machines have 4,000 queues for what they are sent; perfdhcp's one must not be what overflows, with either
    server.
    """
    usual = (
        f"-4 -r {per_second} -n {clients} -R {clients} -d {LOST_SECONDS} -W {LOST_SECONDS}000000 -l {source}"
    )
    begun = subprocess.Popen(
        (
            *f"ip netns exec {where.client} perfdhcp {usual}".split(),
            *options,
            "-b",
            f"mac={mac_text(first_mac)}",
            SERVER,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert wait_for(lambda: urgent.deepen_queues(begun.pid) > 0 or begun.poll() is not None, 5)
    return begun


def storm_in(text: str) -> Storm:
    """Return what perfdhcp's report says."""
    parts = dict(_STATISTICS.findall(text))
    offers, acks = parts["DISCOVER-OFFER"], parts["REQUEST-ACK"]
    return Storm(
        sent=int(_value(offers, "sent packets")),
        offered=int(_value(offers, "received packets")),
        acknowledged=int(_value(acks, "received packets")),
        worst_offer=_value(offers, "max delay"),
        worst_ack=_value(acks, "max delay"),
        text=text,
    )


def _value(body: str, name: str) -> float:
    found = re.search(rf"{name}: ([-\d.]+|n/a)", body)
    assert found, body
    return math.nan if found[1] == "n/a" else float(found[1])


@contextmanager
def capture(where: Segment, file: Path) -> Iterator[None]:
    """Write all that the server sends from its DHCP port to `file`, without loss, as it passes the client's side."""
    done = subprocess.Popen(
        (*f"ip netns exec {where.client} tcpdump -i cli0 -n -U -B 65536 -s 400 -w {file}".split(),
         "udp", "src", "port", "67", "and", "src", "host", SERVER),
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert done.stderr is not None
        assert any("listening" in line for line in iter(done.stderr.readline, ""))
        yield
    finally:
        time.sleep(0.5)  # tcpdump reads in batches
        done.send_signal(signal.SIGINT)
        said = done.communicate(timeout=30)[1]
    assert "0 packets dropped by kernel" in said, said


def acknowledged(file: Path) -> Mapping[str, frozenset[str]]:
    """Return for each address the machines to which a DHCPACK gave it, from a capture."""
    owners: dict[str, set[str]] = defaultdict(set)
    content = file.read_bytes()
    position = _PCAP_HEADER
    while position < len(content):
        length = _RECORD.unpack_from(content, position)[2]
        position += _RECORD.size
        if given := _ack_in(content[position : position + length]):
            address, mac = given
            owners[address].add(mac)
        position += length
    return {address: frozenset(macs) for address, macs in owners.items()}


def _ack_in(frame: bytes) -> tuple[str, str] | None:
    """Return address and MAC of a DHCPACK."""
    begin = _ETHERNET + 4 * (frame[_ETHERNET] & 0x0F) + 8
    message, options = frame[begin : begin + _FIXED], frame[begin + _FIXED + 4 :]
    if options[:3] != bytes((_MESSAGE_TYPE, 1, _ACK)):
        return None
    return str(IPv4Address(message[16:20])), message[28:34].hex(":")


def lease_alone(where: Segment, macs: Collection[str]) -> None:
    """Have one machine after the other begin anew, as one does that was refused, and get its lease."""
    client = DhcpClient(where)
    try:
        for mac in macs:
            offer = client.ask("discover", mac)
            assert offer is not None, mac
            chosen = [("requested_addr", offer.yiaddr), ("server_id", SERVER)]
            given = client.ask("request", mac, chosen)
            assert given is not None, mac
            assert option(given, "message-type") == _ACK, (mac, offer.yiaddr)
    finally:
        client.close()


class Ours:
    """Our pxe while a storm passes; everything that the server said is in `owners` afterwards."""

    def __init__(self, where: Segment, ground: Bench, capture: Path) -> None:
        self._where, self._ground, self.capture = where, ground, capture
        self._stack = ExitStack()
        self.owners: dict[str, frozenset[str]] = {}

    def __enter__(self) -> Pxe:
        (self._ground.work / "run" / "leases").unlink(missing_ok=True)
        pxe = self._ground.start(self._where, "--no-probe")
        self._stack.callback(self._end, pxe)
        pxe.await_ready()
        self._stack.enter_context(capture(self._where, self.capture))
        return pxe

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.owners = dict(acknowledged(self.capture))

    @staticmethod
    def _end(pxe: Pxe) -> None:
        pxe.process.terminate()
        try:
            pxe.wait()
        finally:
            pxe.process.kill()


def duplicates(owners: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
    """Return the addresses that more than one machine was given."""
    return {address: macs for address, macs in owners.items() if len(macs) > 1}


def machines_of(owners: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
    """Return for each machine the addresses that it was given."""
    addresses: dict[str, set[str]] = defaultdict(set)
    for address, macs in owners.items():
        for mac in macs:
            addresses[mac].add(address)
    return {mac: frozenset(found) for mac, found in addresses.items()}
