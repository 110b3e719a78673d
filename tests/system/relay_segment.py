"""A network two hops away: machines, a router with a real DHCP relay, a second router, and our cable."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.system.pxe_segment import CLIENT, SERVER, Segment, run, wait_for

FAR_NETWORK, FAR_ROUTER, FAR_HOST = "10.78.0.0/24", "10.78.0.1", "10.78.0.2"
NEAR_ROUTER = "10.77.0.254"
SITE = "10.77.0.3"
TRANSIT = ("10.79.0.1", "10.79.0.2")
FAR_MAC, FAR_ADDRESS = "52:54:00:78:00:01", "10.78.0.101"
SUBNETS = "[{subnet: 10.78.0.0/24, gateway: 10.78.0.1, range: [10.78.0.150, 10.78.0.199]}]"


@dataclass(frozen=True, kw_only=True)
class Relayed:
    """Where everybody is: `near` is our cable, `far` the one behind the relay; both have srv0 in `near.server`.

    Interface far0 in namespace `far.client` is the machines' end, and near0 in `near.client` is one of our own
    network. `relay` is the router beside the machines; `site` has site0, with SITE, on our own network.
    """

    near: Segment
    far: Segment
    relay: str
    site: str

    @staticmethod
    def mac(namespace: str, interface: str) -> str:
        """Return the MAC of an interface."""
        return run("ip", "-n", namespace, "-brief", "link", "show", interface).stdout.split()[2]


def _namespaces(stack: ExitStack, *names: str) -> None:
    for name in names:
        run("ip", "netns", "add", name)
        stack.callback(_end, name)
        run("ip", "-n", name, "link", "set", "lo", "up")


def _end(namespace: str) -> None:
    for pid in run("ip", "netns", "pids", namespace, check=False).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "delete", namespace, check=False)


def _cable(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Lay a cable between two ends: namespace, interface, address with prefix length (or nothing)."""
    run(*f"ip link add {one[1]} netns {one[0]} type veth peer {other[1]} netns {other[0]}".split())
    for namespace, name, address in (one, other):
        if address:
            run("ip", "-n", namespace, "address", "add", address, "dev", name)
        run("ip", "-n", namespace, "link", "set", name, "up")


def _bridge(namespace: str, name: str, *ports: str) -> None:
    run("ip", "-n", namespace, "link", "add", name, "type", "bridge", "forward_delay", "0")
    for port in ports:
        run("ip", "-n", namespace, "link", "set", port, "master", name)
    run("ip", "-n", namespace, "link", "set", name, "up")


@contextmanager
def relayed(*, relays_to: Sequence[str] = (SERVER,)) -> Iterator[Relayed]:
    """Lay all cables, start the relay (dnsmasq's), and take everything away again.

    Our own network is a bridge, so that a site's server can stand on it beside us; the machines' is one too.
    """
    number = os.getpid()
    server, near, middle, relay, far, site = (f"flrel-{role}{number}" for role in "snmrfd")
    with ExitStack() as stack:
        _namespaces(stack, server, near, middle, relay, far, site)
        _cable((server, "srv0", f"{SERVER}/24"), (near, "to-srv", ""))
        _cable((near, "to-mid", ""), (middle, "mid0", f"{NEAR_ROUTER}/24"))
        _cable((near, "to-site", ""), (site, "site0", f"{SITE}/24"))
        _bridge(near, "near0", "to-srv", "to-mid", "to-site")
        run("ip", "-n", near, "address", "add", f"{CLIENT}/24", "dev", "near0")
        _cable((middle, "mid1", f"{TRANSIT[0]}/30"), (relay, "rel0", f"{TRANSIT[1]}/30"))
        _cable((relay, "rel1", f"{FAR_ROUTER}/24"), (far, "to-rel", ""))
        _bridge(far, "far0", "to-rel")
        run("ip", "-n", far, "address", "add", f"{FAR_HOST}/24", "dev", "far0")
        for namespace, network, router in (
            (server, "default", NEAR_ROUTER),
            (near, "default", NEAR_ROUTER),
            (site, "default", NEAR_ROUTER),
            (middle, FAR_NETWORK, TRANSIT[1]),
            (relay, "10.77.0.0/24", TRANSIT[0]),
            (far, "default", FAR_ROUTER),
        ):
            run("ip", "-n", namespace, "route", "add", network, "via", router)
        for namespace in (middle, relay):
            run("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        stack.enter_context(_relay(relay, relays_to))
        yield Relayed(
            near=Segment(server=server, client=near),
            far=Segment(server=server, client=far),
            relay=relay,
            site=site,
        )


@contextmanager
def _relay(namespace: str, servers: Sequence[str]) -> Iterator[None]:
    """Run a real relay (RFC 1542) in `namespace`."""
    process = subprocess.Popen(
        (
            *f"ip netns exec {namespace} dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0".split(),
            *("--pid-file=", "--log-facility=-", "--interface=rel1", "--bind-interfaces"),
            *(f"--dhcp-relay={FAR_ROUTER},{server}" for server in servers),
        ),
        stderr=subprocess.DEVNULL,
    )
    try:
        sockets = ("ip", "netns", "exec", namespace, "ss", "-Hlun", "sport", "=", "67")
        assert wait_for(lambda: ":67 " in run(*sockets).stdout)
        yield
    finally:
        process.kill()
        process.wait()
