"""Many changes, one commit: what waits while one commit is on its way goes into the next one together.

A commit costs a sync of the disk, whatever is in it. A rack that boots asks for hundreds of changes at once; one
commit each would make the last machine wait for all others (measured: p99 12 times as long at 64 callers).
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeVar

from bootstrap import failpoints
from bootstrap.errors import Conflict, StateError
from bootstrap.state import Delete, Entry, Put, Room, Shared, Store, Write, room_of, size_of

MOST_TRIES = 16  # a commit that lost so many races in a row meets something other than a race
LONGEST_PAUSE = (
    0.1  # seconds; who lost a race waits up to 1, 2, 4 ... ms: two that try in step would lose in turns
)
CONDITIONS_OF_AN_ACT = 3  # what a change rests on: its record, its log's length, and the last number of all
BOUNDLESS = Room()
PENDING = -1  # the revision of an entry that the batch itself has written

Result = TypeVar("Result")


class Batch:
    """A store as it will be: reads see the writes of the batch, and `commit` does them all or none.

    What was read before it was written is written only if it is still the same in the store then.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._room = room_of(store)
        self._read: dict[str, Entry | None] = {}
        self._writes: dict[str, Write] = {}
        self._own: dict[str, Write] = {}
        self._content = 0  # bytes of all that was kept, also of what was written over since

    def get(self, key: str) -> Entry | None:
        """Return the entry at `key`, or None; one that this batch has written has the revision PENDING."""
        write = self._own.get(key) or self._writes.get(key)
        if write is not None:
            return Entry(key=key, value=write.value, revision=PENDING) if isinstance(write, Put) else None
        if key not in self._read:
            self._read[key] = self._store.get(key)
        return self._read[key]

    def know(self, entries: Mapping[str, Entry | None]) -> None:
        """Take `entries` (None: absent) for what stands in the store; what is written on them is written if they do."""
        self._read.update(entries)

    def read(self) -> list[str]:
        """Return the keys that were read."""
        return [*self._read]

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with `prefix`, in order."""
        found = {entry.key for entry in self._store.scan(prefix)}
        for key, write in (self._writes | self._own).items():
            if key.startswith(prefix):
                (found.add if isinstance(write, Put) else found.discard)(key)
        return sorted(found)

    def write(self, writes: Sequence[Write]) -> None:
        """Add `writes` of the act that runs now; the last one at a key counts."""
        for write in writes:
            self._own[write.key] = write

    def has_room(self) -> bool:
        """Return whether the store takes what the act wrote in one commit with what acts before it wrote.

        The first that writes has all the room there is: if that is too little, the store says so.
        """
        if not self._writes or self._room == BOUNDLESS:
            return True
        keys = self._writes.keys() | self._own.keys()
        conditions = sum(key in self._read or self._is_conditional(key) for key in keys)
        return (
            len(keys) <= self._room.writes
            and conditions <= self._room.conditions
            and self._content + size_of(self._own.values()) <= self._room.content
        )

    def keep(self) -> None:
        """Make what the act wrote part of the batch."""
        if self._room != BOUNDLESS:
            self._content += size_of(self._own.values())
        self._writes |= self._own
        self._own = {}

    def drop(self) -> None:
        """Forget what the act wrote."""
        self._own = {}

    def commit(self) -> None:
        """Write everything, if there is anything.

        Raises:
            Conflict: something that was read has changed since; nothing was written.
            StateError: the store could not write; nothing was written.
        """
        if self._writes:
            failpoints.reached("ledger.batch.before")
            self._store.commit([*self._guarded()])

    def _is_conditional(self, key: str) -> bool:
        write = self._own.get(key) or self._writes.get(key)
        return write is not None and write.after is not None

    def _guarded(self) -> Iterator[Write]:
        for key, write in self._writes.items():
            if key not in self._read:
                yield write
                continue
            entry = self._read[key]
            after = entry.revision if entry else 0
            yield (
                Put(key=key, value=write.value, after=after)
                if isinstance(write, Put)
                else Delete(key=key, after=after)
            )


class Batches:
    """Runs what many threads want changed, in the order in which they came, in as few commits as possible.

    The thread that finds nobody at work does the work for all that wait, and hands over to the first of those
    that came meanwhile: there is no thread of its own, and no pause to gather in. What a commit has no room for waits
    for the next one: what one caller brings is no error of another.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._most_jobs = max(1, room_of(store).conditions // CONDITIONS_OF_AN_ACT)
        self._lock = threading.Lock()
        self._waiting: list[_Job] = []
        self._is_led = False

    def run(self, act: Callable[[Batch], Result]) -> Result:
        """Return what `act` returns, once what it wrote into its Batch is durable.

        `act` may run again on a fresh batch if another process wrote first: it must change nothing else.

        Raises:
            Conflict: too many races were lost in a row.
            StateError: the store could not write; nothing of this act was written.
        """
        job = _Job(act)
        with self._lock:
            self._waiting.append(job)
            leads, self._is_led = not self._is_led, True
        if leads or not job.wait():
            self._lead()
        result: Result = job.result()
        return result

    def _lead(self) -> None:
        with self._lock:
            jobs, self._waiting = self._waiting[: self._most_jobs], self._waiting[self._most_jobs :]
        late: Sequence[_Job] = ()
        try:
            jobs, late = self._commit(jobs)
        finally:
            with self._lock:
                self._waiting = [*late, *self._waiting]
                following = self._waiting[0] if self._waiting else None
                self._is_led = following is not None
            if following:
                following.wake()
            for job in jobs:
                job.end()

    def _commit(self, jobs: list["_Job"]) -> tuple[list["_Job"], Sequence["_Job"]]:
        """Do `jobs` in one commit; return those that are done, and those that it had no room for."""
        again: list[str] = []
        done = jobs
        for tried in range(MOST_TRIES):
            time.sleep(random.uniform(0, min(LONGEST_PAUSE, 2**tried / 1000)) if tried else 0)  # noqa: S311  # no secret
            batch = Batch(self._store)
            if again and isinstance(self._store, Shared):
                # Read together, and the race is as short as can be: else small batches overtake large ones for ever.
                batch.know(self._store.get_all(again))
            done = [*takewhile(lambda job: job.act(batch), jobs)]  # noqa: B023  # it is used up at once
            try:
                batch.commit()
            except Conflict:
                again = batch.read()
                continue
            except Exception as error:  # noqa: BLE001  # whatever it is, each caller must hear of it
                _fail(done, error)
            break
        else:
            _fail(done, Conflict(f"lost {MOST_TRIES} races in a row"))
        return done, jobs[len(done) :]


def _fail(jobs: Sequence["_Job"], error: Exception) -> None:
    """Give all of them the error: each may have seen what an earlier one wrote, and that is not there."""
    for job in jobs:
        job.error = type(error)(*error.args) if isinstance(error, StateError) else error


class _Job:
    """One act of one thread, and what came of it."""

    def __init__(self, act: Callable[[Batch], Any]) -> None:
        self._act = act
        self._signal = threading.Lock()
        self._signal.acquire()
        self._is_done = False
        self._result: Any = None
        self.error: BaseException | None = None

    def act(self, batch: Batch) -> bool:
        """Do the act; an error of its own takes back what it wrote, and nothing else.

        Return whether that is done: False if `batch` has no room for it, and is as if it had not been.
        """
        self.error = None
        try:
            self._result = self._act(batch)
        except BaseException as error:  # noqa: BLE001  # it belongs to the thread that asked, not to the leader
            batch.drop()
            self.error = error
            return True
        if not batch.has_room():
            batch.drop()
            return False
        batch.keep()
        return True

    def wait(self) -> bool:
        """Wait for the leader; return whether the act is done (else: lead yourself)."""
        self._signal.acquire()
        return self._is_done

    def wake(self) -> None:
        """Make its thread the leader."""
        self._signal.release()

    def end(self) -> None:
        """Let its thread go on."""
        self._is_done = True
        self._signal.release()

    def result(self) -> Any:
        """Return the result of the act, or raise its error."""
        if self.error is not None:
            raise self.error
        return self._result
