"""Reads nginx's log: which machine asked for which boot file, and what it got.

nginx hands boot files out without asking us, so its log is the only one who saw that. The log is read a second behind,
in a thread of its own: no request waits for it, and nothing of it is written to the store. What is kept is a ring per
listed machine, and one for all others together. When web starts again it reads the end of the log once more.
"""

import logging
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from bootstrap.explain.steps import HTTP_ERROR, End, Request
from bootstrap.model import Cluster, mac_from

log = logging.getLogger(__name__)

PATH = Path("log/nginx-access.log")
ROUND_SECONDS = 1.0
LOOK_BACK_BYTES = 4 << 20  # the requests of 4,000 machines that boot once
MOST_AT_ONCE = 1 << 20
MOST_ADDRESSES = 16_384
KEPT = 32  # requests of a machine; a boot has about five
KEPT_OF_OTHERS = 512

# Up to the first field that a machine writes, every byte is nginx's own; in that one, quotes and controls are escaped.
_LINE = re.compile(
    rb'^\{"time":"[^"]{1,40}","epoch":(?P<epoch>[0-9.]{1,20}),"address":"(?P<address>[0-9.]{7,15})",'
    rb'"listener":"(?P<listener>public|machine)","request":"(?P<method>GET|HEAD) '
    rb"(?P<path>/(?:boot\.ipxe|ipxe/refused\?|ipxe(?!/)|artifacts/sha256/|v1/ignition/|localboot\.|loader/ipxe-)"
    rb'[^ "\\]{0,2048}) HTTP/1\.[01]","status":(?P<status>\d{3}),"bytes":(?P<bytes>\d{1,19}),'
    rb'"seconds":(?P<seconds>[0-9.]{1,12}),(?:"length":"(?P<length>\d{0,19})","range":"(?P<range>[^"]{0,80})",)?',
    re.MULTILINE,
)
_ERROR = re.compile(r"[?&]error=([0-9a-f]{8})(?:&|$)")
_MAC = re.compile(r"[?&]mac=([0-9A-Fa-f:%-]{12,64})")
_LAST_PART = re.compile(rb"bytes \d{1,19}-(?P<last>\d{1,19})/(?P<whole>\d{1,19})")  # RFC 9110, 14.4
PARTIAL = 206
REFUSED = "/ipxe/refused?"
_WHAT = (
    ("/boot.ipxe", "boot-script"),
    (REFUSED, "https-refused"),
    ("/ipxe", "script"),
    ("/artifacts/sha256/", "artifact"),
    ("/v1/ignition/", "ignition"),
    ("/localboot.", "localboot"),
    ("/loader/", "loader"),
)
SHOWN = 12  # digits of a sum that stand for it


class AccessLog:
    """The last requests of each machine for boot files; `cluster` says which machines are listed."""

    def __init__(self, cluster: Callable[[], Cluster], path: Path = PATH) -> None:
        self._cluster = cluster
        self._path = path
        self._reserved: dict[str, str] = {}
        self._reserved_of: Cluster | None = None
        self._macs: OrderedDict[str, str] = OrderedDict()
        self._rings: dict[str, deque[Request]] = {}
        self._others: deque[tuple[str, Request]] = deque(maxlen=KEPT_OF_OTHERS)
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._rest = b""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the round that it is in, and close the log."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * ROUND_SECONDS)
        if self._file is not None:
            self._file.close()
            self._file = None

    def requests_of(self, mac: str) -> list[Request]:
        """Return the kept requests of a machine, oldest first."""
        with self._lock:
            addresses = {address for address, of in self._macs.items() if of == mac}
            others = [request for address, request in self._others if address in addresses]
            return sorted([*others, *self._rings.get(mac, ())], key=lambda request: request.at)

    def hears(self, mac: str, address: str) -> None:
        """Take notice that `mac` was given `address` by DHCP."""
        with self._lock:
            self._belongs(address, mac)

    def look(self) -> None:
        """Read what was written since the last time.

        Raises:
            OSError: the log cannot be read.
        """
        if self._file is None:
            self._open()
        while self._file is not None and (chunk := self._file.read(MOST_AT_ONCE)):
            lines, newline, rest = (self._rest + chunk).rpartition(b"\n")
            self._rest = rest[-MOST_AT_ONCE:] if newline else (self._rest + chunk)[-MOST_AT_ONCE:]
            if newline:
                self._take(lines)
        if self._file is not None and self._was_replaced():
            self._file.close()
            self._file = None

    def _open(self) -> None:
        if not self._path.exists():
            return
        self._file = self._path.open("rb")
        size = self._file.seek(0, 2)
        self._file.seek(max(0, size - LOOK_BACK_BYTES))
        self._rest = b""

    def _was_replaced(self) -> bool:
        """Return whether the file at the path is another one than ours, or was cut."""
        assert self._file is not None  # noqa: S101  # for the type checker; `look` asked
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        own = self._file.seek(0, 1)
        return there.st_size < own or not same_file(self._file, there.st_ino)

    def _run(self) -> None:
        while not self._stop.wait(ROUND_SECONDS):
            try:
                self.look()
            except Exception:
                # It only tells stories: whatever went wrong, nobody's boot is to feel it.
                log.exception("the log of nginx could not be read")

    def _take(self, lines: bytes) -> None:
        found = list(requests_in(lines))
        cluster = self._cluster()
        if cluster is not self._reserved_of:
            addresses = (
                (str(machine.address), machine.mac) for machine in cluster.machines if machine.address
            )
            self._reserved, self._reserved_of = dict(addresses), cluster
        with self._lock:
            for address, mac, _ in found:
                if mac and address not in self._macs:
                    self._belongs(address, mac)
            for address, _, request in found:
                owner = self._reserved.get(address) or self._macs.get(address, "")
                if owner and cluster.machine_by_mac(owner) is not None:
                    self._keep(owner, request)
                else:
                    self._others.append((address, request))

    def _keep(self, mac: str, request: Request) -> None:
        ring = self._rings.setdefault(mac, deque(maxlen=KEPT))
        last = ring[-1] if ring else None
        if last and replace(request, at=last.at, count=last.count) == last:
            ring[-1] = replace(request, count=last.count + 1)
        else:
            ring.append(request)

    def _belongs(self, address: str, mac: str) -> None:
        self._macs[address] = mac
        self._macs.move_to_end(address)
        if len(self._macs) > MOST_ADDRESSES:
            self._macs.popitem(last=False)


def same_file(file: BinaryIO, inode: int) -> bool:
    """Return whether an open file is the one with `inode`."""
    return Path(f"/proc/self/fd/{file.fileno()}").stat().st_ino == inode


def requests_in(lines: bytes) -> Iterator[tuple[str, str, Request]]:
    """Yield address, MAC (empty: not said) and request of each line that is about a boot file; pure."""
    for match in _LINE.finditer(lines):
        path = match["path"].decode("ascii", "replace")
        status = int(match["status"])
        what = next(what for start, what in _WHAT if path.startswith(start))
        if what == "ignition" and status < HTTP_ERROR:
            continue  # the ledger has told of it
        at = float(match["epoch"]) - float(match["seconds"])
        yield (
            match["address"].decode(),
            _mac_in(path),
            Request(
                at=at,
                what=what,
                name=_name(what, path),
                status=status,
                end=_end(match),
                is_secure=match["listener"] == b"machine",
            ),
        )


def _end(match: re.Match[bytes]) -> End:
    """Return how far an answer brought the machine; one of a length that nginx did not know is taken for whole."""
    if match["method"] == b"HEAD":
        return "asked"
    if match["length"] and int(match["bytes"]) < int(match["length"]):
        return "cut"
    if int(match["status"]) != PARTIAL:
        return "whole"
    part = _LAST_PART.fullmatch(match["range"] or b"")
    return "whole" if part and int(part["last"]) + 1 == int(part["whole"]) else "piece"


def _name(what: str, path: str) -> str:
    if what == "https-refused":
        return found[1] if (found := _ERROR.search(path)) else ""
    bare = path.partition("?")[0]
    return bare.rpartition("/")[2][:SHOWN] if what == "artifact" else bare[:64]


def _mac_in(path: str) -> str:
    found = _MAC.search(path) if path.startswith(("/ipxe?", REFUSED)) else None
    try:
        return mac_from(unquote(found[1])) if found else ""
    except ValueError:
        return ""
