"""Writes a change and its event in one commit, and keeps the newest events of each machine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice

from bootstrap.records.batch import CONDITIONS_OF_AN_ACT, Batch, Batches
from bootstrap.records.model import Event, MachineRecord
from bootstrap.state import Delete, Entry, Put, Store, Write, room_of

KEPT_EVENTS = 200
# Old events are dropped this many at a time, so that the index is not read again for every event.
SLACK_EVENTS = 56
FEW_EVENTS = 1000  # up to here single reads are quicker than a scan of all
UNKNOWN = "unknown"  # the one log that all machines outside the configuration share
THIS_EVENT = -1  # as `settled` of a new record: the number that its event is about to get

_SEQUENCE = "meta/last-event"


@dataclass(frozen=True, kw_only=True)
class Note:
    """An event before it has a number; `log` is the machine's MAC, or UNKNOWN; `at` is its time, if not now."""

    who: str
    what: str
    log: str
    machine: str
    decision: str = ""
    reason: str = ""
    detail: str = ""
    at: datetime | None = None


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

    Changes of this process are decided one after another, in batches that are one commit each; a batch that
    another process on the same store has overtaken is decided again from what then stands.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self.store = store
        self._clock = clock
        self._batches = Batches(store)
        self._most_changes = max(1, room_of(store).conditions // CONDITIONS_OF_AN_ACT)

    def machine(self, mac: str) -> MachineRecord | None:
        """Return what is known of the machine, or None."""
        entry = self.store.get(f"machine/{mac}")
        return MachineRecord.from_bytes(entry.value) if entry else None

    def machines(self) -> Iterator[MachineRecord]:
        """Yield all machines in MAC order."""
        for entry in self.store.scan("machine/"):
            yield MachineRecord.from_bytes(entry.value)

    def changed_since(self, revision: int) -> tuple[list[MachineRecord], int]:
        """Return the machines whose records were written after `revision`, and the newest revision among them."""
        entries = list(self.store.scan("machine/", newer=revision))
        newest = max((entry.revision for entry in entries), default=revision)
        return [MachineRecord.from_bytes(entry.value) for entry in entries], newest

    def change(self, mac: str, decide: Callable[[MachineRecord | None, datetime], Change]) -> Written | None:
        """Ask `decide` what to make of the machine, and write that; None if it has and gets no record.

        Raises:
            StateError: the store could not write; nothing was.
        """
        return self._batches.run(lambda batch: self._change(batch, mac, decide))

    def change_all(
        self, macs: Iterable[str], decide: Callable[[str, MachineRecord | None, datetime], Change]
    ) -> None:
        """Ask `decide` of each machine, and write it all in one commit, or as few as the store takes."""

        def act(batch: Batch, some: Sequence[str], known: dict[str, Entry | None]) -> None:
            batch.know(known)
            known.clear()  # should another process have written meanwhile, it is read anew
            for mac in some:
                self._change(batch, mac, partial(decide, mac))

        rest = list(macs)
        ahead = self._read_ahead() if len(rest) > self._most_changes else None
        while rest:
            some, rest = rest[: self._most_changes], rest[self._most_changes :]
            keys = (key for mac in some for key in (f"machine/{mac}", _counter_key(mac)))
            known = {key: ahead.get(key) for key in keys} if ahead is not None else {}
            self._batches.run(partial(act, some=some, known=known))

    def _read_ahead(self) -> dict[str, Entry]:
        """Return what changes of all machines rest on: over a network, thousands of single reads take seconds."""
        prefixes = ("machine/", _counter_key(""))
        return {entry.key: entry for prefix in prefixes for entry in self.store.scan(prefix)}

    def note(self, *notes: Note) -> int:
        """Write events that change no machine, in one commit; return the number of the last one."""
        return self._batches.run(lambda batch: self._append(batch, notes, self._clock()))

    def write(self, writes: Sequence[Write], note: Note | None) -> None:
        """Commit `writes` together with their event, if it is one."""

        def act(batch: Batch) -> None:
            batch.write(writes)
            self._append(batch, (note,) if note else (), self._clock())

        self._batches.run(act)

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

    def _change(
        self, batch: Batch, mac: str, decide: Callable[[MachineRecord | None, datetime], Change]
    ) -> Written | None:
        now, key = self._clock(), f"machine/{mac}"
        entry = batch.get(key)
        before = MachineRecord.from_bytes(entry.value) if entry else None
        change = decide(before, now)
        batch.write(change.writes)
        seq = self._append(batch, (change.note,) if change.note else (), now)
        after = change.record or before
        if after is not None and after.settled == THIS_EVENT:
            after = after.but(settled=seq)
        if after is not None and after is not before:
            value = after.to_bytes()
            if entry is None or value != entry.value:
                batch.write((Put(key=key, value=value),))
        return Written(record=after, seq=seq) if after else None

    def _append(self, batch: Batch, notes: Sequence[Note], now: datetime) -> int:
        """Append `notes` to the log; return the number of the last one (0 for none)."""
        if not notes:
            return 0
        entry = batch.get(_SEQUENCE)
        first = int(entry.value) + 1 if entry else 1
        for seq, note in enumerate(notes, start=first):
            batch.write(self._appended(note, seq, now))
            batch.write(self._bounded(batch, note.log))
        last = first + len(notes) - 1
        batch.write((Put(key=_SEQUENCE, value=str(last).encode()),))
        return last

    @staticmethod
    def _appended(note: Note, seq: int, now: datetime) -> tuple[Write, ...]:
        event = Event(
            seq=seq,
            time=note.at or now,
            who=note.who,
            machine=note.machine,
            what=note.what,
            decision=note.decision,
            reason=note.reason,
            detail=note.detail,
        )
        return (
            Put(key=_event_key(seq), value=event.to_bytes()),
            Put(key=f"machine-event/{note.log}/{seq:012d}", value=b""),
        )

    @staticmethod
    def _bounded(batch: Batch, log: str) -> list[Write]:
        """Return the writes that count what a log holds, and cut it to KEPT_EVENTS when it grew too long."""
        counter = _counter_key(log)
        entry = batch.get(counter)
        length = (int(entry.value) if entry else 0) + 1
        if length < KEPT_EVENTS + SLACK_EVENTS:
            return [Put(key=counter, value=str(length).encode())]
        keys = batch.keys(f"machine-event/{log}/")
        old = keys[: max(0, len(keys) - KEPT_EVENTS)]
        numbers = (_event_key(_seq_from(key)) for key in old)
        kept = len(keys) - len(old)
        return [*map(_delete, old), *map(_delete, numbers), Put(key=counter, value=str(kept).encode())]


def _delete(key: str) -> Delete:
    return Delete(key=key)


def _counter_key(log: str) -> str:
    return f"meta/log-length/{log}"


def _event_key(seq: int) -> str:
    return f"event/{seq:012d}"


def _seq_from(key: str) -> int:
    return int(key.rpartition("/")[2])
