"""What was seen of a machine, in one form: a time, a line for people, and the marks that rules look for; pure.

A machine chooses many of the texts freely. Rules look at marks, which are words of ours; texts are only shown, on one
line, without control characters, and cut.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from bootstrap.records.model import Event

LONGEST_TEXT = 200
PXE = "pxe"  # as `who` of an event: what pxe saw on the wire

_ARCH = re.compile(r" ?\(architecture (\d{1,5})\)$")  # as web/pxe_events.py appends it
_BOOT_FILE = re.compile(r"(?:^|, )boot file ([^\s,]+)")  # as pxe/log.py words it
_FIRMWARE = re.compile(r"(?:^|, )(?:PXE|HTTP)Client\b")
_IPXE = re.compile(r"(?:^|, )user class iPXE\b")
_NO_DISK = re.compile(r"^no disk matches the rule ")  # as configs/installer/install says it

HTTP_ERROR = 400
# What the number of iPXE's error begins with if it does not believe a certificate: EACCES, or EINVAL where the name of
# its issuer is right and the signature is not (iPXE's errno.h; the rest tells the line of its sources).
_DISBELIEF = ("02", "1c")
_ASKED = {"discover": "DHCP DISCOVER", "request": "DHCP REQUEST", "inform": "DHCP INFORM"}
_ANSWERED = {"offer": "DHCP OFFER", "ack": "DHCP ACK"}
_TFTP = {
    "tftp-sent": "TFTP sent",
    "tftp-failed": "TFTP:",
    "tftp-not-found": "TFTP:",
    "tftp-oack-unheard": "TFTP:",
}
_OFFERED = {"boot.ipxe": "url-offered", "none": "no-loader-offered"}  # else a loader by HTTP
_MARKS: Mapping[str, str] = {  # of the ledger's own events; the rest has the event's name as its mark
    "fetched": "ignition-ok",
    "already-installed": "complete",
    "node-ready": "ready",
}


End = Literal["whole", "piece", "cut", "asked"]
"""How far an answer went: up to the file's last byte (whole, or the last of several ranges), to the end of a range
before that, cut before its own end, or HEAD's, which asks for the size alone."""
_ENDS: Mapping[End, tuple[str, str]] = {
    "whole": ("ok", ""),
    "piece": ("ok", ""),
    "cut": ("cut", ", cut"),
    "asked": ("asked", " (HEAD)"),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request of a machine to nginx, from its log; the same again is counted.

    `what` is loader, boot-script, script, kernel, initrd, image, artifact, ignition, localboot or https-refused, of
    which `name` is iPXE's error number (eight hexadecimal digits). `at` is when it began, in seconds since the epoch.
    `end` is how far the answer went: see End.
    """

    at: float
    what: str
    name: str
    status: int
    end: End = "whole"
    count: int = 1
    is_secure: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was seen. `file`, `arch` (option 93), `status` (HTTP) and `reason` are for the diagnosis."""

    at: datetime
    text: str
    marks: frozenset[str]
    file: str = ""
    arch: int | None = None
    status: int | None = None
    reason: str = ""


def shown(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return `text` on one line, without what a terminal would obey, and at most `longest` characters long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * longest]).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def story(events: Iterable[Event], requests: Iterable[Request]) -> tuple[Step, ...]:
    """Return everything that was seen, in the order of time."""
    steps = [*map(of_event, events), *map(of_request, requests)]
    return tuple(sorted(steps, key=lambda step: step.at))


def of_event(event: Event) -> Step:
    """Return what an event of the ledger tells."""
    if event.who == PXE:
        return _of_packet(event)
    if event.what == "network-boot":
        marks = {"script", f"script:{event.decision}"}
        text = f"iPXE script given: {event.decision} ({event.reason})"
        return Step(at=event.time, text=shown(text), marks=frozenset(marks), reason=shown(event.reason))
    marks = {_MARKS.get(event.what, event.what)}
    if event.what == "failed" and _NO_DISK.match(event.reason):
        marks.add("failed:no-disk")
    told = ": ".join(filter(None, (event.what, event.decision, event.reason or event.detail)))
    text = "Ignition document sent" if event.what == "fetched" else told
    return Step(at=event.time, text=shown(text), marks=frozenset(marks), reason=shown(event.reason))


def of_request(request: Request) -> Step:
    """Return what a line of nginx's log tells."""
    if request.what == "https-refused":
        return _of_refusal(request)
    is_error = request.status >= HTTP_ERROR
    end, how = ("error", "") if is_error else _ENDS[request.end]
    marks = {f"{request.what}-{end}"}
    if request.what == "loader" and not is_error:
        marks.add("loader-sent" if request.end == "whole" else "loader-part")
    if request.what in {"kernel", "initrd", "artifact"}:
        marks.add(f"load-{end}")
    times = f", {request.count} times" if request.count > 1 else ""
    way = "HTTPS" if request.is_secure else "HTTP"
    return Step(
        at=datetime.fromtimestamp(request.at, UTC),
        text=shown(f"{way} {request.what} {request.name}: {request.status}{how}{times}"),
        marks=frozenset(marks),
        file=shown(request.name),
        status=request.status,
    )


def _of_refusal(request: Request) -> Step:
    """Return that iPXE said it got no script by HTTPS, with the page of its error (ipxe.org/err)."""
    page = f"ipxe.org/{request.name}" if request.name else "no error number"
    cause = "untrusted" if request.name.startswith(_DISBELIEF) else "failed"
    times = f", {request.count} times" if request.count > 1 else ""
    return Step(
        at=datetime.fromtimestamp(request.at, UTC),
        text=f"iPXE took no script by HTTPS: {page}{times}",
        marks=frozenset({"https-refused", f"https-refused:{cause}"}),
        reason=page,
    )


def _of_packet(event: Event) -> Step:
    found = _ARCH.search(event.detail)
    arch = int(found[1]) if found else None
    detail = event.detail[: found.start()] if found else event.detail
    file, marks = "", {event.what}
    if event.what in _ASKED:
        text = f"{_ASKED[event.what]} {detail}"
        marks = {f"{_asker(detail, arch)}-{event.what}", f"{_asker(detail, arch)}-dhcp"}
    elif event.what in _ANSWERED:
        text = f"{_ANSWERED[event.what]} {detail}"
        file = match[1] if (match := _BOOT_FILE.search(detail)) else ""
        marks = {event.what, *_offered(file, arch)}
    else:
        text = f"{_TFTP.get(event.what, event.what)} {detail}"
        file = detail.partition(" ")[0].rstrip(":")
        marks |= {"loader-sent"} if event.what == "tftp-sent" else set()
    arch_text = f" (arch {arch})" if arch is not None else ""
    return Step(
        at=event.time,
        text=shown(f"{text.rstrip()}{arch_text}"),
        marks=frozenset(marks),
        file=shown(file),
        arch=arch,
    )


def _asker(detail: str, arch: int | None) -> str:
    """Return who sends a DHCP message: iPXE, firmware, or an operating system, which names no architecture."""
    if _IPXE.search(detail):
        return "ipxe"
    return "firmware" if arch is not None or _FIRMWARE.search(detail) else "os"


def _offered(file: str, arch: int | None) -> set[str]:
    if file.startswith("http"):
        return {_OFFERED.get(file.rpartition("/")[2], "http-loader-offered")}
    if file:
        return {"loader-offered"}
    return {"no-loader-offered"} if arch is not None else set()
