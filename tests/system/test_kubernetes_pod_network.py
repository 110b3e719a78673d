"""Two nodes in namespaces: their pods reach each other by their own addresses, and the world by their node's.

Needs root, iproute2 and iptables; nothing leaves the namespaces.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.kubernetes.pod_network import PROTOCOL, laid_out
from tests import samples

pytestmark = pytest.mark.system

SCRIPT = samples.ROOT / "configs/kubernetes/pod-network"
PREFIX = "fl-t-podnet"
SWITCH = f"{PREFIX}-lan"
NODES = {"w1": ("10.77.0.101", "10.2.0"), "w2": ("10.77.0.102", "10.2.1")}
WORLD = ("world", "10.77.0.10")

ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 7007)) as server:
    print("ready", flush=True)
    connection, (peer, _) = server.accept()
    connection.close()
    print(peer, flush=True)
"""


def sh(*argv: str, check: bool = True) -> str:
    result = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=30)
    if check:
        assert result.returncode == 0, (argv, result.stderr)
    return result.stdout


def inside(name: str, *argv: str, check: bool = True) -> str:
    return sh("ip", "netns", "exec", f"{PREFIX}-{name}", *argv, check=check)


@pytest.fixture(scope="module")
def rack() -> Iterator[None]:
    """Build two nodes with a pod each and a host that knows nothing of pods, all on one switch."""
    names = ["lan", "world", *NODES, *(f"pod-{name}" for name in NODES)]
    try:
        for name in names:
            sh("ip", "netns", "add", f"{PREFIX}-{name}")
            inside(name, "ip", "link", "set", "lo", "up")
        inside("lan", "ip", "link", "add", "br0", "type", "bridge")
        inside("lan", "ip", "link", "set", "br0", "up")
        for name, address in (
            (WORLD[0], WORLD[1]),
            *((name, address) for name, (address, _) in NODES.items()),
        ):
            plug(name, address)
        for name, (_, pods) in NODES.items():
            put_pod(name, pods)
        yield
    finally:
        for name in names:
            sh("ip", "netns", "del", f"{PREFIX}-{name}", check=False)


def plug(name: str, address: str) -> None:
    space = f"{PREFIX}-{name}"
    sh("ip", "-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", f"p-{name}", "netns", SWITCH)
    inside("lan", "ip", "link", "set", f"p-{name}", "master", "br0", "up")
    inside(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    inside(name, "ip", "link", "set", "eth0", "up")


def put_pod(name: str, pods: str) -> None:
    """Make what the bridge plugin makes: a gateway on the node, a pod behind it."""
    pod = f"pod-{name}"
    sh(
        "ip",
        "-n",
        f"{PREFIX}-{name}",
        "link",
        "add",
        "cni0",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        f"{PREFIX}-{pod}",
    )
    inside(name, "ip", "address", "add", f"{pods}.1/24", "dev", "cni0")
    inside(name, "ip", "link", "set", "cni0", "up")
    inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    inside(pod, "ip", "address", "add", f"{pods}.2/24", "dev", "eth0")
    inside(pod, "ip", "link", "set", "eth0", "up")
    inside(pod, "ip", "route", "add", "default", "via", f"{pods}.1")


def run_script(name: str, routes: bytes, folder: Path) -> None:
    """Run `pod-network` on a node that was sent these routes."""
    (folder / "routes").write_bytes(routes)
    inside(name, "sh", str(SCRIPT), str(folder / "routes"))


def routes_of(name: str) -> set[str]:
    lines = inside(name, "ip", "-4", "route", "show", "proto", str(PROTOCOL)).splitlines()
    return {" ".join(line.split()[:3]) for line in lines}


def peer_of(client: str, server: str, address: str) -> str:
    """Return the address as which `client` is seen by `server`, by TCP."""
    listener = subprocess.Popen(
        ("ip", "netns", "exec", f"{PREFIX}-{server}", sys.executable, "-c", ECHO, address),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        connect = f"import socket; socket.create_connection(('{address}', 7007), 5).close()"
        inside(client, sys.executable, "-c", connect)
        return listener.communicate(timeout=10)[0].strip()
    finally:
        listener.kill()
        listener.wait()


@pytest.fixture
def routes() -> bytes:
    cluster = samples.cluster("lab")
    return laid_out(cluster, {"w1": 0, "w2": 1}).routes


@pytest.mark.usefixtures("rack")
def test_pods_of_two_nodes_see_each_other_and_the_world_sees_their_nodes(
    routes: bytes, tmp_path: Path
) -> None:
    assert "7007" not in inside("pod-w1", "ping", "-c1", "-W1", "10.2.1.2", check=False)
    for name in NODES:
        run_script(name, routes, tmp_path)

    assert routes_of("w1") == {"10.2.1.0/24 via 10.77.0.102"}
    assert routes_of("w2") == {"10.2.0.0/24 via 10.77.0.101"}
    assert peer_of("pod-w1", "pod-w2", "10.2.1.2") == "10.2.0.2"
    assert peer_of("pod-w2", "pod-w1", "10.2.0.2") == "10.2.1.2"
    assert peer_of("pod-w1", "world", WORLD[1]) == "10.77.0.101"


@pytest.mark.usefixtures("rack")
def test_a_second_run_changes_nothing(routes: bytes, tmp_path: Path) -> None:
    run_script("w1", routes, tmp_path)
    before = inside("w1", "ip", "-4", "route"), inside("w1", "iptables-save", "-t", "nat")
    run_script("w1", routes, tmp_path)
    after = inside("w1", "ip", "-4", "route"), inside("w1", "iptables-save", "-t", "nat")

    counters = [line for line in before[1].splitlines() if not line.startswith(("#", ":"))]
    assert before[0] == after[0]
    assert [line for line in after[1].splitlines() if not line.startswith(("#", ":"))] == counters
    assert len([line for line in counters if "MASQUERADE" in line]) == 1


@pytest.mark.usefixtures("rack")
def test_stale_routes_go_and_strangers_stay(routes: bytes, tmp_path: Path) -> None:
    run_script("w1", routes, tmp_path)
    inside("w1", "ip", "route", "add", "10.9.0.0/24", "via", WORLD[1])
    run_script("w1", b"pods 10.2.0.0/16\nroute 10.2.7.0/24 10.77.0.102\n", tmp_path)

    assert routes_of("w1") == {"10.2.7.0/24 via 10.77.0.102"}
    assert "10.9.0.0/24 via 10.77.0.10" in inside("w1", "ip", "-4", "route")
    inside("w1", "ip", "route", "del", "10.9.0.0/24")
    run_script("w1", routes, tmp_path)
    assert routes_of("w1") == {"10.2.1.0/24 via 10.77.0.102"}


@pytest.mark.usefixtures("rack")
def test_one_route_that_cannot_be_costs_no_other(routes: bytes, tmp_path: Path) -> None:
    impossible = b"pods 10.2.0.0/16\nroute 10.2.8.0/24 192.0.2.1\nroute 10.2.1.0/24 10.77.0.102\n"
    with pytest.raises(AssertionError, match=r"invalid gateway|unreachable"):
        run_script("w1", impossible, tmp_path)

    assert routes_of("w1") == {"10.2.1.0/24 via 10.77.0.102"}
    run_script("w1", routes, tmp_path)
