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
