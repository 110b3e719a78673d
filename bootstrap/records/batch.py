"""Many changes, one commit: what waits while one commit is on its way goes into the next one together.

A commit costs a sync of the disk, whatever is in it. A rack that boots asks for hundreds of changes at once; one
commit each would make the last machine wait for all others (measured: p99 12 times as long at 64 callers).
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bootstrap import failpoints
from bootstrap.errors import Conflict, StateError
from bootstrap.state import Delete, Entry, Put, Shared, Store, Write, room_of

MOST_TRIES = 16  # a commit that lost so many races in a row meets something other than a race
LONGEST_PAUSE = (
    0.1  # seconds; who lost a race waits up to 1, 2, 4 ... ms: two that try in step would lose in turns
)
CONDITIONS_OF_AN_ACT = 3  # what a change rests on: its record, its log's length, and the last number of all
PENDING = -1  # the revision of an entry that the batch itself has written

Result = TypeVar("Result")


class Batch:
    """A store as it will be: reads see the writes of the batch, and `commit` does them all or none.

    What was read before it was written is written only if it is still the same in the store then.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, Entry | None] = {}
        self._writes: dict[str, Write] = {}
        self._own: dict[str, Write] = {}

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

    def keep(self) -> None:
        """Make what the act wrote part of the batch."""
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
    that came meanwhile: there is no thread of its own, and no pause to gather in.
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
        try:
            self._commit(jobs)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._is_led = following is not None
            if following:
                following.wake()
            for job in jobs:
                job.end()

    def _commit(self, jobs: Sequence["_Job"]) -> None:
        again: list[str] = []
        for tried in range(MOST_TRIES):
            time.sleep(random.uniform(0, min(LONGEST_PAUSE, 2**tried / 1000)) if tried else 0)  # noqa: S311  # no secret
            batch = Batch(self._store)
            if again and isinstance(self._store, Shared):
                # Read together, and the race is as short as can be: else small batches overtake large ones for ever.
                batch.know(self._store.get_all(again))
            for job in jobs:
                job.act(batch)
            try:
                batch.commit()
            except Conflict:
                again = batch.read()
                continue
            except Exception as error:  # noqa: BLE001  # whatever it is, each caller must hear of it
                _fail(jobs, error)
            return
        _fail(jobs, Conflict(f"lost {MOST_TRIES} races in a row"))


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

    def act(self, batch: Batch) -> None:
        """Do the act; an error of its own takes back what it wrote, and nothing else."""
        self.error = None
        try:
            self._result = self._act(batch)
            batch.keep()
        except BaseException as error:  # noqa: BLE001  # it belongs to the thread that asked, not to the leader
            batch.drop()
            self.error = error

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
