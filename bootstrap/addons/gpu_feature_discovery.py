"""NVIDIA's GPU feature discovery: labels that say which GPUs a node has; node-feature-discovery writes them on it."""

import json
from collections.abc import Iterable, Iterator

from bootstrap.adding import node_features
from bootstrap.addons import Addon, Asked, Image, Object, rendered, tolerations
from bootstrap.addons.nvidia_device_plugin import IMAGE
from bootstrap.kubernetes import runtimes
from bootstrap.kubernetes.labels import GPU
from bootstrap.model.addons import NvidiaDevicePlugin

NAMESPACE = "kube-system"


def images(minor: int) -> tuple[Image, ...]:
    """Return the device plugin's image, which holds this program too, and that of node-feature-discovery."""
    del minor
    return (IMAGE, node_features.IMAGE)


def documents(asked: Asked) -> Iterable[Object]:
    """Return what labels nodes, then the DaemonSet that tells it what to write."""
    plugin = _plugin(asked)
    return (
        *node_features.documents(asked.cluster, NAMESPACE, tolerations(asked.cluster)),
        *rendered(
            "gpu-feature-discovery.yaml.j2",
            image=IMAGE.reference(asked.cluster),
            mig_strategy=plugin.mig_strategy,
            namespace=NAMESPACE,
            replicas=plugin.replicas,
            runtime=runtimes.NVIDIA,
            selector=json.dumps({GPU: "nvidia"}),
        ),
    )


def _plugin(asked: Asked) -> NvidiaDevicePlugin:
    """Return how the device plugin offers GPUs: labels that say something else would send pods astray."""
    chosen = (addon.nvidia_device_plugin for addon in asked.cluster.addons)
    return next((options for options in chosen if options is not None), NvidiaDevicePlugin())


def warnings(asked: Asked) -> Iterator[str]:
    """Yield that it runs nowhere, if so."""
    if not runtimes.has_gpus(asked.cluster):
        yield "no pool has gpu: {installCuda: true}, so it runs on no node"


PLUGIN = Addon(title="labels of GPUs", documents=documents, images=images, warnings=warnings)
