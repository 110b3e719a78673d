"""The URL of the lab's API servers on this computer's loopback (bootstrap/lab/gateway.py listens there)."""

from pathlib import Path

from bootstrap.errors import UsageError
from bootstrap.lab.gateway import LOOPBACK, port_file
from bootstrap.model import Cluster


def door(cluster: Cluster, work: Path) -> str | None:
    """Return the URL by which this computer reaches the API servers of its lab; None for a real rack.

    Raises:
        UsageError: the lab is not up.
    """
    if cluster.lab is None or not cluster.lab.hosts:
        return None
    try:
        return f"https://{LOOPBACK}:{int(port_file(work).read_text())}"
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the lab of {cluster.metadata.name} is not up; `up` or `lab up` starts it"
        ) from error
