"""Hears dnsmasq: writes what an operator wants to read, and passes the events on to web."""

import dataclasses
import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from bootstrap.model import mac_from
from bootstrap.render.firmware import TABLE
from pxe.events import Event, Kind, clean
from pxe.log import UNKNOWN, LogReader, is_routine, version_started

log = logging.getLogger("pxe")

_OF_TFTP = frozenset({Kind.TFTP_SENT, Kind.TFTP_FAILED, Kind.TFTP_NOT_FOUND})
_ASKING = frozenset({Kind.DISCOVER, Kind.OFFER})  # in proxy mode there is no DISCOVER in the log


class Observer:
    """The listener of `supervise`.

    `report` takes each event and must not wait. `neighbour` finds the MAC of an address for transfers of
    machines that got their address elsewhere. `on_ready` is called each time dnsmasq serves.
    """

    def __init__(
        self,
        *,
        root: Path,
        report: Callable[[Event], None],
        neighbour: Callable[[IPv4Address], str],
        on_ready: Callable[[], None],
    ) -> None:
        self._root = root
        self._reader = LogReader(root)
        self._report = report
        self._neighbour = neighbour
        self._on_ready = on_ready
        self._heard_at = time.time()

    def heard(self, line: str) -> None:
        """Take one line of dnsmasq's log."""
        if version := version_started(line):
            log.info("dnsmasq %s serves", clean(version))
            self._reader = LogReader(self._root)
            self._on_ready()
        routine = is_routine(line)
        if routine and log.isEnabledFor(logging.DEBUG):
            log.debug("%s", clean(line))
        events = self._stamped(self._reader.feed(line))
        self._heard_at = time.time()
        self._tell(events)
        if not events and not version and not routine and line.strip():
            log.info("%s", clean(line))

    def mac_at(self, address: str) -> str:
        """Return the machine that was last seen to get `address`, or an empty text."""
        return self._reader.mac_at(address)

    def quiet(self) -> None:
        """Take what was read so far as whole."""
        self._tell(self._stamped(self._reader.flush()))

    def _stamped(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Return `events` with their time: what shows that a packet is whole comes after its last line."""
        now, before = time.time(), self._heard_at
        return tuple(
            dataclasses.replace(event, at=now if event.kind in _OF_TFTP else before) for event in events
        )

    def _tell(self, events: tuple[Event, ...]) -> None:
        for event in events:
            known = self._with_mac(event)
            log.info(
                "%s", ": ".join(filter(None, (known.mac or known.address, known.kind.value, known.detail)))
            )
            remark = remark_on(known)
            if remark:
                log.warning("%s: %s", known.mac, remark)
            if _is_machine(known.mac):
                self._report(known)
                if remark:
                    self._report(dataclasses.replace(known, kind=Kind.NO_LOADER, detail=remark))

    def _with_mac(self, event: Event) -> Event:
        if event.mac or not event.address:
            return event
        try:
            return dataclasses.replace(event, mac=self._neighbour(IPv4Address(event.address)))
        except ValueError:
            return event


def _is_machine(mac: str) -> bool:
    """Return whether `mac` can be a machine's own; anyone may send a packet that says otherwise."""
    try:
        return mac_from(mac) == mac
    except ValueError:
        return False


def remark_on(event: Event) -> str:
    """Return what an operator must know about the firmware that `event` shows, or an empty text; pure."""
    if event.kind not in _ASKING:
        return ""
    if event.firmware == UNKNOWN:
        said = "" if event.arch is None else f" (architecture {event.arch})"
        return f"firmware of a kind{said} that is not in our table: it gets no loader"
    row = next((row for row in TABLE if row.name == event.firmware), None)
    return f"{row.name} gets no loader: {row.note}" if row and row.loader is None else ""
