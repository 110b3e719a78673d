"""The container runtimes that pods may ask for by name: a RuntimeClass for each."""

from typing import Any

from bootstrap.model import Cluster

NVIDIA = "nvidia"
"""The runtime's name in containerd's configuration, and the class that pods write as runtimeClassName."""


def has_gpus(cluster: Cluster) -> bool:
    """Return whether a pool has GPUs whose driver and CUDA we look after."""
    return any(pool.gpu is not None and pool.gpu.install_cuda for pool in cluster.pools)


def pods_per_gpu(cluster: Cluster) -> int:
    """Return how many pods share a GPU: NVIDIA's device plugin tells kubelet of so many for each."""
    chosen = (addon.nvidia_device_plugin for addon in cluster.addons)
    return next((options.replicas for options in chosen if options is not None), 1)


def objects(cluster: Cluster) -> tuple[dict[str, Any], ...]:
    """Return the classes that nodes of the cluster have runtimes for, to be applied; none without GPUs.

    They are of node.k8s.io/v1, which every Kubernetes from v1.20 on has.
    """
    if not has_gpus(cluster):
        return ()
    return (
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": NVIDIA},
            "handler": NVIDIA,
        },
    )
