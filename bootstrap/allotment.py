"""Keeps the pod subnets of a cluster's nodes in its work folder: deploy/<cluster>/pod-subnets.json."""

from pathlib import Path

from bootstrap.disk import write_file
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
    path = work / FILE
    previous = _previous(path)
    numbers = subnets.allotment(cluster, previous)
    if keep and numbers != previous:
        write_file(path, subnets.dump(numbers), 0o600)
    return numbers


def _previous(path: Path) -> dict[str, int]:
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
    path, counts = work / FILE, subnets.parse(others)
    taken = set(counts.values())
    more = {name: number for name, number in _previous(path).items() if number not in taken}
    text = subnets.dump({**more, **counts})
    if text != text_of(work):
        write_file(path, text, 0o600)
