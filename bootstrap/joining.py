"""What rendering needs so that machines become nodes by themselves, put together from the work folder."""

from pathlib import Path

from bootstrap import node_programs
from bootstrap.allotment import pod_subnets
from bootstrap.kubernetes.pod_network import laid_out
from bootstrap.model import Cluster
from bootstrap.programs import NODE
from bootstrap.render.node import Joining
from certs.keyring import PublicKeyring

AUTHORITY = "ca"
"""The row of the keyring whose certificate every node trusts."""


def joining(cluster: Cluster, work: Path, keyring: PublicKeyring, *, keep: bool = True) -> Joining | None:
    """Return what machines of `cluster` need to join it; None if it has no control plane, or no programs yet.

    The programs are those that the last `up` has put into the artifact store. With `keep`, new pod subnets are
    written down.

    Raises:
        PreflightError: the record of programs is damaged.
        StateError: that of pod subnets is.
    """
    found = node_programs.recorded(work)
    if not cluster.control_plane.hosts or not set(NODE) <= set(found):
        return None
    programs, images, plugins = node_programs.node_sums(found)
    return Joining(
        authority=keyring.certificates[AUTHORITY],
        binaries=programs,
        images=images,
        plugins=plugins,
        network=laid_out(cluster, pod_subnets(cluster, work, keep=keep)),
    )
