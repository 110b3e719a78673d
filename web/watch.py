"""Looks after machines that should be heard of: does SSH answer, has one gone silent?"""

import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from bootstrap.errors import StateError
from bootstrap.records import transitions
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.states import ON_DISK
from web.site import Site

log = logging.getLogger(__name__)

ROUND_SECONDS = 2.0
PROBES_AT_ONCE = 16
PROBE_SECONDS = 2.0
SSH_PORT = 22
# One that answered is asked again seldom: it is not our work to watch running machines.
ASK_AGAIN = timedelta(seconds=30)

Probe = Callable[[str], bool]


def ssh_answers(address: str) -> bool:
    """Return whether an SSH server greets at `address`, port 22 (RFC 4253, section 4.2)."""
    try:
        with socket.create_connection((address, SSH_PORT), timeout=PROBE_SECONDS) as connection:
            return connection.recv(8).startswith(b"SSH-2.0")
    except OSError:
        return False


class Watcher:
    """Goes round the machines in a thread of its own, until stopped."""

    def __init__(self, site: Site, probe: Probe = ssh_answers) -> None:
        self._site = site
        self._probe = probe
        self._asked: dict[str, datetime] = {}
        # As last read: of ten thousand machines, few have changed since the last round.
        self._known: dict[str, MachineRecord] = {}
        self._revision = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the round that it is in."""
        self._stop.set()
        self._thread.join(2 * PROBE_SECONDS)

    def look(self) -> None:
        """Go round once.

        Raises:
            StateError: the store could not read or write.
        """
        changed, self._revision = self._site.ledger.changed_since(self._revision)
        self._known |= {record.mac: record for record in changed}
        records = list(self._known.values())
        for record in records:
            if transitions.is_overdue(record, self._site.clock()) and not record.is_stuck:
                self._change(record, transitions.stuck)
        self._ask([record for record in records if self._is_due(record)])

    def _run(self) -> None:
        while not self._stop.wait(ROUND_SECONDS):
            try:
                self.look()
            except StateError as error:
                log.warning("could not look after the machines: %s", error)
            except Exception:
                # The thread is the only one of its kind: whatever went wrong, the next round is to happen.
                log.exception("could not look after the machines")

    def _is_due(self, record: MachineRecord) -> bool:
        runs = record.state in ON_DISK and record.booted_at is not None and self._address(record) is not None
        asked = self._asked.get(record.mac)
        is_fresh = record.ssh_answers and asked is not None and self._site.clock() - asked < ASK_AGAIN
        return runs and not is_fresh

    def _ask(self, records: list[MachineRecord]) -> None:
        if not records:
            return
        with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
            answers = list(pool.map(lambda record: self._probe(self._address(record) or ""), records))
        for record, answer in zip(records, answers, strict=True):
            self._asked[record.mac] = self._site.clock()
            self._told(record, answer)

    def _told(self, before: MachineRecord, answer: bool) -> None:  # noqa: FBT001  # the answer itself
        def decide(record: MachineRecord, now: datetime) -> Change:
            del now
            # Started again, or armed, while it was being asked: the answer is of the past.
            if record.booted_at != before.booted_at or record.state not in ON_DISK:
                return Change()
            return transitions.ssh_seen(record, answers=answer)

        if answer != before.ssh_answers:
            self._change(before, decide)

    def _address(self, record: MachineRecord) -> str | None:
        """Return where the machine says it is, else where the configuration wants it."""
        machine = self._site.cluster.machine_by_mac(record.mac)
        reserved = str(machine.address) if machine and machine.address else None
        return record.address or reserved

    def _change(self, record: MachineRecord, decide: Callable[[MachineRecord, datetime], Change]) -> None:
        self._site.ledger.change(record.mac, lambda found, now: decide(found, now) if found else Change())
