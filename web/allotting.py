"""Gives the nodes of several appliances' racks one allotment of pod subnets: it is in the store that they share.

Each keeps its own file too (bootstrap/allotment.py), for the verbs that work without an appliance.
"""

from collections.abc import Callable
from pathlib import Path

from bootstrap import allotment
from bootstrap.errors import Conflict, StateError
from bootstrap.model import Cluster
from bootstrap.render.node import Joining
from bootstrap.state import Put, Store

SUBNETS = "meta/pod-subnets"
MOST_TRIES = 16

ReadJoining = Callable[[Cluster], Joining | None]


def allotted(store: Store, work: Path, ask: ReadJoining) -> ReadJoining:
    """Return `ask`, which gives new nodes a number in the file below `work`, with the numbers of all in that file.

    What it returns raises StateError if the store or the file cannot be read or written.
    """

    def read(cluster: Cluster) -> Joining | None:
        for _ in range(MOST_TRIES):
            entry = store.get(SUBNETS)
            before = entry.value if entry else b""
            if before:
                _take_over(work, before)
            found = ask(cluster)
            after = _text_of(work)
            if after == before:
                return found
            try:
                store.commit([Put(key=SUBNETS, value=after, after=entry.revision if entry else 0)])
            except Conflict:
                continue
            return found
        raise StateError("other appliances give out pod subnets at this moment; try again")

    return read


def _take_over(work: Path, others: bytes) -> None:
    try:
        allotment.take_over(work, others)
    except OSError as error:
        raise StateError(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise StateError(f"{SUBNETS} in the store is damaged ({error})") from error


def _text_of(work: Path) -> bytes:
    try:
        return allotment.text_of(work)
    except OSError as error:
        raise StateError(f"{error.filename}: {error.strerror}") from error
