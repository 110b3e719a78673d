"""NVIDIA's device plugin, which makes GPUs nvidia.com/gpu; a cluster with GPU pools has it without being asked."""

import hashlib
import json
from collections.abc import Iterable, Iterator

from bootstrap.addons import Addon, Asked, Image, Object, rendered
from bootstrap.gpu import mig
from bootstrap.gpu.taint import RESOURCE
from bootstrap.kubernetes import runtimes
from bootstrap.kubernetes.labels import GPU

NAME = "nvidia-device-plugin"
# Digest: found in one public list of images only.
IMAGE = Image(
    "nvcr.io/nvidia/k8s-device-plugin:v0.17.1",
    "sha256:af31e2b7c7f89834c4e5219860def7ac2e49a207b3d4e8610d5a26772b7738e5",
)
_SUM_SHOWN = 16


def images(minor: int) -> tuple[Image, ...]:
    """Return the image; it is the same for all minors."""
    del minor
    return (IMAGE,)


def documents(asked: Asked) -> Iterable[Object]:
    """Return the DaemonSet, and how GPUs are shared if they are."""
    sharing = _sharing(asked.options.replicas)
    return rendered(
        "nvidia-device-plugin.yaml.j2",
        image=IMAGE.reference(asked.cluster),
        mig_strategy=mig.strategy(asked.cluster),
        runtime=runtimes.NVIDIA,
        selector=json.dumps({GPU: "nvidia"}),
        sharing=json.dumps(sharing) if sharing else "",
        sharing_sum=json.dumps(hashlib.sha256(sharing.encode()).hexdigest()[:_SUM_SHOWN]),
    )


def _sharing(replicas: int) -> str:
    """Return the plugin's configuration for time slices of `replicas` pods on a GPU; nothing for one."""
    if replicas == 1:
        return ""
    slices = {"resources": [{"name": RESOURCE, "replicas": replicas}]}
    return json.dumps({"version": "v1", "sharing": {"timeSlicing": slices}}, indent=2) + "\n"


def warnings(asked: Asked) -> Iterator[str]:
    """Yield that it runs nowhere, if so."""
    if not runtimes.has_gpus(asked.cluster):
        yield "no pool has gpu: {installCuda: true}, so it runs on no node"


PLUGIN = Addon(title="GPUs as nvidia.com/gpu", documents=documents, images=images, warnings=warnings)
