"""What rendering needs besides the configuration: with a lab, the lab's own SSH key is authorized too."""

from pathlib import Path

from bootstrap.lab.ssh import ensure_lab_key, key_file
from bootstrap.model import Cluster


def with_lab_key(cluster: Cluster, work: Path, *, make: bool = True) -> Cluster:
    """Return `cluster` with the lab's public key among the authorized ones; a cluster without a lab is unchanged.

    With `make` false nothing is written: a key that is not there yet is left out.

    Raises:
        LabError: the private key that is there is damaged.
    """
    if cluster.lab is None or not (make or key_file(work).is_file()):
        return cluster
    key = ensure_lab_key(work)
    ssh = cluster.ssh.model_copy(update={"authorized_keys": (*cluster.ssh.authorized_keys, key)})
    return cluster.model_copy(update={"ssh": ssh})
