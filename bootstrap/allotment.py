"""Keeps the pod subnets of a cluster's nodes in its work folder: deploy/<cluster>/pod-subnets.json."""

from pathlib import Path

from bootstrap.disk import holding, write_file
from bootstrap.errors import StateError
from bootstrap.kubernetes import subnets
from bootstrap.model import Cluster

FILE = "pod-subnets.json"


def pod_subnets(cluster: Cluster, work: Path, *, keep: bool = True) -> dict[str, int]:
    """Return the number of each node's /24, as it was in earlier runs; with `keep`, write down new ones.

    Raises:
        StateError: the file is damaged; new numbers could give two running nodes the same addresses.
        OSError: it cannot be read or written.
    """
    if not keep:
        return subnets.allotment(cluster, recorded(work))
    with holding(work):  # web gives out numbers too
        previous = recorded(work)
        numbers = subnets.allotment(cluster, previous)
        if numbers != previous:
            record(work, numbers)
    return numbers


def record(work: Path, numbers: subnets.Allotment) -> None:
    """Write the numbers down; who changes them holds `work` from reading to writing (bootstrap/disk.py).

    Raises:
        OSError: they cannot be written.
    """
    write_file(work / FILE, subnets.dump(numbers), 0o600)


def recorded(work: Path) -> dict[str, int]:
    """Return the numbers as they are written down; none if they never were. Raises as `pod_subnets`."""
    path = work / FILE
    try:
        return subnets.parse(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        advice = "put it back from a backup, or remove it if no node runs"
        raise StateError(f"{path}: is damaged ({error}); {advice}") from error


def text_of(work: Path) -> bytes:
    """Return what is kept in `work`, as it is written; empty if nothing is. Raises OSError."""
    path = work / FILE
    return path.read_bytes() if path.exists() else b""


def take_over(work: Path, others: bytes) -> None:
    """Make the numbers in `others`, which `text_of` returned elsewhere, count in `work`.

    A name that only `work` knows keeps its number unless somebody else has it.

    Raises:
        StateError, OSError: as `pod_subnets`.
        ValueError: `others` is damaged.
    """
    counts = subnets.parse(others)
    taken = set(counts.values())
    with holding(work):
        previous = recorded(work)
        numbers = {name: number for name, number in previous.items() if number not in taken} | counts
        if numbers != previous:
            record(work, numbers)
