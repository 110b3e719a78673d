"""Writes a change and its event in one commit, and keeps the newest events of each machine."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from bootstrap.errors import Conflict
from bootstrap.records.model import Event, MachineRecord
from bootstrap.state import Delete, Entry, Put, Store, Write

KEPT_EVENTS = 200
# Old events are dropped this many at a time, so that the index is not read again for every event.
SLACK_EVENTS = 56
FEW_EVENTS = 1000  # up to here single reads are quicker than a scan of all
UNKNOWN = "unknown"  # the one log that all machines outside the configuration share
THIS_EVENT = -1  # as `settled` of a new record: the number that its event is about to get
MOST_TRIES = 16  # a commit that lost so many races in a row meets something other than a race

_SEQUENCE = "meta/last-event"


@dataclass(frozen=True, kw_only=True)
class Note:
    """An event before it has a number and a time; `log` is the machine's MAC, or UNKNOWN."""

    who: str
    what: str
    log: str
    machine: str
    decision: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a decision wants written.

    `record` is the new record (None: unchanged), `note` the event (None: no news), `writes` what else belongs
    into the same commit.
    """

    record: MachineRecord | None = None
    note: Note | None = None
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Written:
    """What stands in the store after a change; `seq` is the number of its event, 0 if there was none."""

    record: MachineRecord
    seq: int


class Ledger:
    """The machines and the audit log in one store.

    Writers of this process take turns at a lock, so that each decision is made once; the `after` conditions
    hold against other processes on the same store, and a lost race is decided again from what then stands.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self.store = store
        self._clock = clock
        self._turn = threading.Lock()

    def machine(self, mac: str) -> MachineRecord | None:
        """Return what is known of the machine, or None."""
        entry = self.store.get(f"machine/{mac}")
        return MachineRecord.from_bytes(entry.value) if entry else None

    def machines(self) -> Iterator[MachineRecord]:
        """Yield all machines in MAC order."""
        for entry in self.store.scan("machine/"):
            yield MachineRecord.from_bytes(entry.value)

    def change(self, mac: str, decide: Callable[[MachineRecord | None, datetime], Change]) -> Written | None:
        """Ask `decide` what to make of the machine, and write that; None if it has and gets no record.

        Raises:
            StateError: the store could not write; nothing was.
        """
        with self._turn:
            for _ in range(MOST_TRIES):
                try:
                    return self._change_once(mac, decide)
                except Conflict:
                    continue
        raise Conflict(f"machine/{mac}: lost {MOST_TRIES} races in a row")

    def note(self, *notes: Note) -> int:
        """Write events that change no machine, in one commit; return the number of the last one."""
        with self._turn:
            for _ in range(MOST_TRIES):
                try:
                    writes, last = self._numbered(notes, self._clock())
                    self.store.commit(writes)
                except Conflict:
                    continue
                return last
        raise Conflict(f"{_SEQUENCE}: lost {MOST_TRIES} races in a row")

    def write(self, writes: Sequence[Write], note: Note) -> None:
        """Commit `writes` together with their event."""
        with self._turn:
            events, _ = self._numbered([note], self._clock())
            self.store.commit([*writes, *events])

    def last_event(self) -> int:
        """Return the number of the newest event; 0 if there was none yet."""
        entry = self.store.get(_SEQUENCE)
        return int(entry.value) if entry else 0

    def events_after(self, after: int, limit: int) -> list[Event]:
        """Return at most `limit` kept events with a number above `after`, oldest first.

        One who follows the log asks for few at a time, and they are found by their number.
        """
        last = self.last_event()
        if last - after > FEW_EVENTS:
            entries: Iterator[Entry | None] = self.store.scan("event/")
        else:
            entries = (self.store.get(_event_key(seq)) for seq in range(after + 1, last + 1))
        newer = (entry for entry in entries if entry and _seq_from(entry.key) > after)
        return [Event.from_bytes(entry.value) for entry in islice(newer, limit)]

    def events_of(self, log: str, *, after: int = 0) -> list[Event]:
        """Return the kept events of one machine (or of UNKNOWN) with a number above `after`, oldest first."""
        numbers = (_seq_from(entry.key) for entry in self.store.scan(f"machine-event/{log}/"))
        entries = (self.store.get(_event_key(seq)) for seq in numbers if seq > after)
        return [Event.from_bytes(entry.value) for entry in entries if entry]

    def _change_once(
        self, mac: str, decide: Callable[[MachineRecord | None, datetime], Change]
    ) -> Written | None:
        now = self._clock()
        entry = self.store.get(f"machine/{mac}")
        before = MachineRecord.from_bytes(entry.value) if entry else None
        change = decide(before, now)
        events, seq = self._numbered([change.note] if change.note else [], now)
        writes = [*change.writes, *events]
        after = change.record or before
        if after is not None and after != before:
            if after.settled == THIS_EVENT:
                after = after.but(settled=seq)
            revision = entry.revision if entry else 0
            writes.append(Put(key=f"machine/{mac}", value=after.to_bytes(), after=revision))
        if writes:
            self.store.commit(writes)
        return Written(record=after, seq=seq) if after else None

    def _numbered(self, notes: Sequence[Note], now: datetime) -> tuple[list[Write], int]:
        """Return the writes that append `notes` to the log, and the number of the last one (0 for none)."""
        if not notes:
            return [], 0
        entry = self.store.get(_SEQUENCE)
        first = int(entry.value) + 1 if entry else 1
        seq = first + len(notes) - 1
        writes: list[Write] = []
        for number, note in enumerate(notes, start=first):
            writes += self._appended(note, number, now)
        for log, count in Counter(note.log for note in notes).items():
            writes += self._bounded(log, count)
        revision = entry.revision if entry else 0
        writes.append(Put(key=_SEQUENCE, value=str(seq).encode(), after=revision))
        return writes, seq

    @staticmethod
    def _appended(note: Note, seq: int, now: datetime) -> list[Write]:
        event = Event(
            seq=seq,
            time=now,
            who=note.who,
            machine=note.machine,
            what=note.what,
            decision=note.decision,
            reason=note.reason,
            detail=note.detail,
        )
        return [
            Put(key=_event_key(seq), value=event.to_bytes()),
            Put(key=f"machine-event/{note.log}/{seq:012d}", value=b""),
        ]

    def _bounded(self, log: str, added: int) -> list[Write]:
        """Return the writes that count what a log holds, and cut it to KEPT_EVENTS when it grew too long."""
        counter = f"meta/log-length/{log}"
        entry = self.store.get(counter)
        length = (int(entry.value) if entry else 0) + added
        if length < KEPT_EVENTS + SLACK_EVENTS:
            return [Put(key=counter, value=str(length).encode())]
        keys = [entry.key for entry in self.store.scan(f"machine-event/{log}/")]
        old = keys[: max(0, len(keys) + added - KEPT_EVENTS)]
        numbers = (_event_key(_seq_from(key)) for key in old)
        kept = len(keys) + added - len(old)
        return [*map(_delete, old), *map(_delete, numbers), Put(key=counter, value=str(kept).encode())]


def _delete(key: str) -> Delete:
    return Delete(key=key)


def _event_key(seq: int) -> str:
    return f"event/{seq:012d}"


def _seq_from(key: str) -> int:
    return int(key.rpartition("/")[2])
