"""What tests on a network of cables share: pxe on it, a site's server that is left alone, and who asks them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.system.pxe_segment import Bench, DhcpClient, Pxe, Segment
from tests.system.relay_segment import Relayed
from tests.system.site_servers import Site, stranger

Place = Literal["near", "far"]
"""Our own network, or the one behind the relay."""
SITE_OPTIONS = (
    "--dhcp-range=10.77.0.200,10.77.0.220",
    "--dhcp-range=set:far,10.78.0.200,10.78.0.220,255.255.255.0",
    "--dhcp-option=tag:far,option:router,10.78.0.1",
    "--no-ping",
)
SITE_ADDRESSES = {"near": "10.77.0.2", "far": "10.78.0.2"}
"""How the addresses of the site's server begin."""


def wire(network: Relayed, place: Place) -> tuple[Segment, str]:
    """Return the cable of a place, and the machines' interface on it."""
    return (network.near, "near0") if place == "near" else (network.far, "far0")


@contextmanager
def running(ground: Bench, network: Relayed) -> Iterator[Pxe]:
    """Run pxe on our own network."""
    started = ground.start(network.near)
    try:
        started.await_ready()
        yield started
    finally:
        started.process.kill()
        started.process.wait()


@contextmanager
def asking(network: Relayed, place: Place) -> Iterator[DhcpClient]:
    """Ask DHCP questions in a place."""
    client = DhcpClient(*wire(network, place))
    try:
        yield client
    finally:
        client.close()


@contextmanager
def left_alone(network: Relayed, folder: Path) -> Iterator[Site]:
    """Run the site's own DHCP server: it gives addresses to both networks, and was told nothing of us."""
    with stranger(network.site, "site0", folder, *SITE_OPTIONS) as site:
        yield site
