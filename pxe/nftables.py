"""The one door to nftables (nft(8)): sends the TFTP requests of some machines to other ports of this computer.

Ports are rewritten before anything else looks at a packet, without connection tracking: loading that would have the
kernel remember every DHCP packet of a rack. Firmware may send UDP without a checksum (RFC 768), and the kernel, which
adds the difference to what stands there, would make a wrong one of it; so afterwards there is none.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from bootstrap.errors import PreflightError
from pxe.transfers import PORT, REQUEST

PATIENCE_SECONDS = 10.0
SINGLE_SECONDS = 60  # how long a transfer from port 69 is remembered after its last block
MOST_SINGLE = 4096
_PREFIX = "firstlight_tftp_"


@dataclass(frozen=True, kw_only=True)
class Redirects:
    """Whose requests go where: the port by MAC on our own cable, and by address for those behind a router.

    `single` is the first and last port from which we send as if it were port 69.
    """

    interface: str
    address: IPv4Address
    single: tuple[int, int]
    by_mac: Mapping[str, int] = field(default_factory=dict)
    by_address: Mapping[IPv4Address, int] = field(default_factory=dict)


def table_of(interface: str) -> str:
    """Return the name of our table for `interface`: nft takes letters, digits and _ alone."""
    return _PREFIX + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):02x}" for c in interface)


def ruleset(redirects: Redirects) -> str:
    """Return what nft is to load: our table in place of the one that was there, in one step; pure."""
    name = table_of(redirects.interface)
    requests = f'iifname "{redirects.interface}" ip daddr {redirects.address} udp dport {PORT}'
    first, last = redirects.single
    answers = f'oifname "{redirects.interface}" ip saddr {redirects.address} udp sport {first}-{last}'
    remembered = "@single { ip daddr . udp dport : udp sport }"
    lines = (
        f"table ip {name}",
        f"delete table ip {name}",
        f"table ip {name} {{",
        _map("by_mac", "ether_addr", sorted(redirects.by_mac.items())),
        _map("by_address", "ipv4_addr", sorted(redirects.by_address.items())),
        "  map single {",
        "    type ipv4_addr . inet_service : inet_service",
        f"    flags dynamic,timeout; timeout {SINGLE_SECONDS}s; size {MOST_SINGLE}",
        "  }",
        "  chain arriving {",
        "    type filter hook prerouting priority raw; policy accept;",
        # Opcode 1 is a request; what follows one goes to the port that the answer really came from.
        f"    {requests} @th,64,16 != {REQUEST} udp dport set ip saddr . udp sport map @single udp checksum set 0",
        f"    {requests} @th,64,16 == {REQUEST} udp dport set ether saddr map @by_mac udp checksum set 0",
        f"    {requests} @th,64,16 == {REQUEST} udp dport set ip saddr map @by_address udp checksum set 0",
        "  }",
        "  chain leaving {",
        "    type filter hook output priority raw; policy accept;",
        f"    {answers} update {remembered} udp sport set {PORT}",  # noqa: S608  # no SQL
        "  }",
        "}",
    )
    return "\n".join(lines) + "\n"


def _map(name: str, key: str, entries: Sequence[tuple[object, int]]) -> str:
    told = ", ".join(f"{who} : {port}" for who, port in entries)
    elements = f"\n    elements = {{ {told} }}" if told else ""
    return f"  map {name} {{\n    type {key} : inet_service{elements}\n  }}"


def program() -> str | None:
    """Return where nft is, or None."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def load(text: str) -> None:
    """Have the kernel take `text`, all of it or nothing.

    Raises:
        PreflightError: nft is not installed, or it or the kernel refused; the text holds its own words.
    """
    binary = program()
    if binary is None:
        raise PreflightError("nft is not installed; install it: apt-get install nftables")
    try:
        done = subprocess.run(
            (binary, "-f", "-"),
            input=text,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreflightError(f"nft could not be run: {error}") from error
    if done.returncode:
        said = next(iter(done.stderr.strip().splitlines()), f"it ended with status {done.returncode}")
        raise PreflightError(f"nft did not take our table for TFTP: {said}")


def remove(interface: str) -> None:
    """Remove our table of `interface`, also one that a killed pxe left; none there is fine.

    Raises:
        PreflightError: as `load`.
    """
    name = table_of(interface)
    load(f"table ip {name}\ndelete table ip {name}\n")
