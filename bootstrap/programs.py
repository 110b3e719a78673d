"""Which programs and container images a cluster runs, by name."""

from bootstrap.model import Cluster

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
DATABASE = ("etcd", "etcdctl")
NODE = ("kubelet", "kube-proxy")
OPTIONAL = ("kubectl",)
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
"""What connects pods with `cni: bridge`; control-plane hosts that are nodes get them if all of them are there."""
IMAGE = ".tar"
"""How an OCI archive's name ends: nodes import it, so that a pod's image needs no registry."""


def needed(cluster: Cluster) -> tuple[str, ...]:
    """Return the names of the programs without which `cluster` cannot run."""
    return (
        *(CONTROL_PLANE if cluster.control_plane.hosts else ()),
        *(DATABASE if cluster.etcd.members else ()),
        *NODE,
    )
