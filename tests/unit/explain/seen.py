"""What was seen of machines: recordings of a run of tests/system/test_explain.py, and words to type events by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bootstrap.explain.diagnosis import About
from bootstrap.explain.steps import End, Request, Step, story
from bootstrap.records.model import Event
from web.accesslog import requests_in

DATA = Path(__file__).parent / "data"
START = datetime(2026, 1, 1, tzinfo=UTC)
ABOUT = About(
    name="w1", mac="52:54:00:77:00:01", url="http://10.77.0.1:8080", secure="https://10.77.0.1:8443"
)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What dnsmasq 2.90, nginx 1.22, OVMF 2022.11, SeaBIOS and iPXE did on 2026-11-23, with seeded failures."""

    events: Sequence[Event]
    requests: Sequence[Request]
    at: datetime

    def until(self, end: datetime) -> tuple[Step, ...]:
        events = [event for event in self.events if event.time < end]
        return story(events, [one for one in self.requests if one.at < end.timestamp()])


def recording(name: str) -> Recording:
    text: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    found = [request for _, _, request in requests_in("\n".join(text["log"]).encode())]
    return Recording(
        events=[Event.model_validate(event) for event in text["events"]],
        requests=found,
        at=datetime.fromtimestamp(text["at"], UTC),
    )


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def pxe(seconds: float, what: str, detail: str) -> Event:
    return Event(time=after(seconds), who="pxe", machine="w1", what=what, detail=detail)


def event(seconds: float, what: str, decision: str = "", reason: str = "") -> Event:
    return Event(
        time=after(seconds), who="machine", machine="w1", what=what, decision=decision, reason=reason
    )


def asked(seconds: float, what: str, status: int = 200, end: End = "whole") -> Request:
    return Request(at=after(seconds).timestamp(), what=what, name=f"/{what}", status=status, end=end)


ROM = "PXEClient:Arch:00007:UNDI:003016 (architecture 7)"
IPXE = "PXEClient:Arch:00007:UNDI:003016, user class iPXE (architecture 7)"


def from_rom(at: float = 0.0) -> list[Event]:
    """Return what dnsmasq tells of firmware that takes our offer."""
    return [
        pxe(at, "discover", ROM),
        pxe(at, "offer", "10.77.0.101, boot file snponly.efi (architecture 7)"),
        pxe(at + 1, "request", f"10.77.0.101, {ROM}"),
        pxe(at + 1, "ack", "10.77.0.101, boot file snponly.efi, w1 (architecture 7)"),
    ]


def from_ipxe(at: float = 3.0) -> list[Event]:
    """Return what dnsmasq tells of iPXE that takes our offer."""
    url = "boot file http://10.77.0.1:8080/boot.ipxe"
    return [
        pxe(at, "discover", IPXE),
        pxe(at, "offer", f"10.77.0.101, {url} (architecture 7)"),
        pxe(at, "request", f"10.77.0.101, {IPXE}"),
        pxe(at, "ack", f"10.77.0.101, {url}, w1 (architecture 7)"),
    ]


def up_to_script(decision: str = "install", at: float = 0.0) -> tuple[list[Event], list[Request]]:
    """Return a boot up to its script."""
    reason = f"{decision} it is"
    events = [*from_rom(at), pxe(at + 2, "tftp-sent", "snponly.efi"), *from_ipxe(at + 3)]
    return [*events, event(at + 5, "network-boot", decision, reason)], [asked(at + 4, "boot-script")]


def up_to_initrd(at: float = 0.0) -> tuple[list[Event], list[Request]]:
    """Return a boot up to the end of its downloads."""
    events, requests = up_to_script(at=at)
    return events, [*requests, asked(at + 6, "kernel"), asked(at + 7, "initrd")]
