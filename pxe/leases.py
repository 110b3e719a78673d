"""Remembers which machine holds which address of the ranges, across a death of dnsmasq, of pxe and of the computer.

dnsmasq would write its whole lease file at each lease: with 4,000 leases that is most of its time, and one killed
meanwhile leaves half a file, so that addresses are given away twice. So it keeps leases in its own memory
(leasefile-ro), and we keep a journal of its DHCPACK lines. What that journal holds is reserved for the same machines
when dnsmasq starts again, until a lease time has passed: who is still there by then has renewed.
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from bootstrap.model import Cluster
from pxe.files import write

log = logging.getLogger("pxe")

HOSTS_MODE = 0o644  # dnsmasq reads it after it gave up root
LONGEST_LINE = 2048
MOST_LINES = 200_000  # of the journal while pxe runs; then it is written anew, with one line per machine
_MAC = "[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
_ACK = re.compile(
    rf"^dnsmasq-dhcp\[\d+\]: \d+ DHCPACK\([^)\n]*\) (?P<address>[\d.]{{7,15}}) (?P<mac>{_MAC})(?: |$)".encode(),
    re.MULTILINE,
)
_ENTRY = re.compile(rf"(?P<time>\d{{1,12}}) (?P<mac>{_MAC}) (?P<address>[\d.]{{7,15}})")


class Leases:
    """The addresses given to machines without a reservation; `clock` gives seconds since the epoch.

    `journal` outlives the computer; `hosts` is what dnsmasq reads when it starts.
    """

    def __init__(self, cluster: Cluster, journal: Path, hosts: Path, clock: Callable[[], float]) -> None:
        machines = cluster.machines
        self._fixed = frozenset(machine.mac for machine in machines if machine.address is not None)
        self._reserved = frozenset(
            str(machine.address) for machine in machines if machine.address is not None
        )
        self._names = {machine.mac: machine.name for machine in machines}
        dhcp = cluster.appliance.dhcp
        ranges = (dhcp.range, *(subnet.range for subnet in dhcp.subnets))
        self._ranges = tuple(given for given in ranges if given is not None)
        self._seconds = dhcp.lease_time
        self._journal, self._hosts, self._clock = journal, hosts, clock
        self._given: dict[str, tuple[int, str]] = {}  # address -> time, MAC; the newest last
        self._file: int | None = None
        self._lines = 0
        self._rest = b""
        self._forget_at: float | None = None

    def load(self) -> None:
        """Take over what an earlier pxe wrote; a torn or strange line costs itself alone."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._journal.read_text(errors="replace").splitlines():
                if match := _ENTRY.fullmatch(line):
                    self._take(int(match["time"]), match["mac"], match["address"])
        self._rewrite()

    def hear(self, chunk: bytes) -> None:
        """Note each machine and address of the ranges that dnsmasq says, in its log, to have brought together.

        `chunk` may begin and end in the middle of a line.
        """
        whole, newline, self._rest = (self._rest + chunk).rpartition(b"\n")
        self._rest = self._rest[-LONGEST_LINE:]
        now = int(self._clock())
        for match in _ACK.finditer(whole + newline):
            mac, address = match["mac"].decode(), match["address"].decode()
            if self._take(now, mac, address):
                self._append(_entry(now, mac, address))

    def restore(self) -> None:
        """Write the file from which a dnsmasq that is about to start learns who holds what."""
        self._rest = b""
        self._drop_expired()
        try:
            write(self._hosts, hosts_text(self._given, self._names), HOSTS_MODE)
        except OSError as error:
            text = "%s cannot be written (%s): addresses may be given away twice"
            log.error(text, self._hosts, error.strerror)  # noqa: TRY400  # the text is for people: no traceback
        self._forget_at = self._clock() + self._seconds if self._given else None

    def forget(self) -> bool:
        """Empty that file once its machines have renewed or gone; return whether dnsmasq has to read it again."""
        if self._forget_at is None or self._clock() < self._forget_at:
            return False
        self._forget_at = None
        with contextlib.suppress(OSError):
            self._hosts.write_text("")
        return True

    def close(self) -> None:
        """Close the journal."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take(self, time: int, mac: str, address: str) -> bool:
        """Keep it if it is a lease that dnsmasq would not know again by its configuration; return whether."""
        if mac in self._fixed or address in self._reserved or not self._is_in_range(address):
            return False
        self._given.pop(address, None)
        self._given[address] = (time, mac)
        return True

    def _is_in_range(self, address: str) -> bool:
        try:
            found = IPv4Address(address)
        except ValueError:
            return False
        return any(first <= found <= last for first, last in self._ranges)

    def _drop_expired(self) -> None:
        now = self._clock()
        self._given = {a: entry for a, entry in self._given.items() if now - entry[0] <= self._seconds}

    def _append(self, text: str) -> None:
        if self._lines >= MOST_LINES or self._file is None:
            self._rewrite()
            return
        with contextlib.suppress(OSError):  # a full disk must not stop leases; those at hand are still kept
            os.write(self._file, text.encode())
        self._lines += 1

    def _rewrite(self) -> None:
        self.close()
        self._drop_expired()
        text = "".join(_entry(time, mac, address) for address, (time, mac) in self._given.items())
        with contextlib.suppress(OSError):
            write(self._journal, text, 0o600)
            self._file = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._lines = len(self._given)


def _entry(time: int, mac: str, address: str) -> str:
    return f"{time} {mac} {address}\n"


def hosts_text(given: Mapping[str, tuple[int, str]], names: Mapping[str, str]) -> str:
    """Return the lines of a dhcp-hostsfile, the newest last: dnsmasq takes a machine's last one; pure."""
    return "".join(_host(mac, address, names.get(mac)) for address, (_, mac) in given.items())


def _host(mac: str, address: str, name: str | None) -> str:
    return ",".join(filter(None, (mac, address, name))) + "\n"
