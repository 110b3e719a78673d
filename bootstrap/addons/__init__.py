"""ONE FILE PER ADDON: the documents that it makes of its options, for a Kubernetes minor; pure, nobody is asked.

A file exports PLUGIN, an `Addon`; its name is its key under `addons`, its text stands in configs/addons/. Every image
has an exact tag, and the digest of its index where one could be looked up: what runs is what was written here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bootstrap.config.manifests import documents
from bootstrap.errors import ConfigError, RenderError
from bootstrap.kubernetes.labels import CONTROL_PLANE
from bootstrap.kubernetes.releases import minor_of
from bootstrap.model import Cluster
from bootstrap.templates import render

Object = dict[str, Any]
"""A Kubernetes object, as a manifest has it."""


@dataclass(frozen=True)
class Image:
    """A container image: registry, path and tag, and the digest of its index (`sha256:...`), if it is known."""

    name: str
    digest: str | None = None

    @property
    def pinned(self) -> str:
        """Return the name with its digest, if it has one."""
        return f"{self.name}@{self.digest}" if self.digest else self.name

    def reference(self, cluster: Cluster) -> str:
        """Return what pods call it: by digest, or by name alone where nodes import it from the mirror.

        An imported image is known under its name and tag only; the mirror has compared its digest.
        """
        listed = {image.partition("@")[0] for image in cluster.mirror.images}
        is_mirrored = cluster.mirror.directory is not None or self.name in listed
        return self.name if is_mirrored and brings_images(cluster) else self.pinned


def brings_images(cluster: Cluster) -> bool:
    """Return whether nodes may get images from the mirror: they come along with programs that do."""
    given = cluster.kubernetes.binaries
    return given.directory is None and given.build is None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an addon may look at.

    `options` are its section of the configuration, of the type that its field in `AddonChoice` has. `kubelet_ca` is the
    certificate (PEM) that the certificates of kubelets are of. `files` are names and contents of the folder that
    the options name, if they name one.
    """

    cluster: Cluster
    options: Any
    kubelet_ca: str = ""
    files: tuple[tuple[str, bytes], ...] = ()

    @property
    def minor(self) -> int:
        """Return the minor of the cluster's Kubernetes."""
        return minor_of(self.cluster.kubernetes.version)


def no_images(minor: int) -> tuple[Image, ...]:
    """Return no image."""
    del minor
    return ()


def no_warnings(asked: Asked) -> Iterable[str]:
    """Return no warning."""
    del asked
    return ()


@dataclass(frozen=True, kw_only=True)
class Addon:
    """An addon: its documents in the order in which they are to be applied, its images for a minor, and warnings.

    A warning is a line for people about what is allowed and will not do what they think.
    """

    title: str
    documents: Callable[[Asked], Iterable[Object]]
    images: Callable[[int], tuple[Image, ...]] = no_images
    warnings: Callable[[Asked], Iterable[str]] = no_warnings


def rendered(template: str, /, **values: object) -> list[Object]:
    """Return the documents of configs/addons/<template> with `values` filled in.

    Raises:
        RenderError: the text is wrong.
    """
    name = f"addons/{template}"
    try:
        return [found.value for found in documents(render(name, **values).encode(), f"configs/{name}")]
    except ConfigError as error:
        raise RenderError(str(error)) from error


def tolerations(cluster: Cluster) -> list[Mapping[str, str]]:
    """Return what a service of the whole cluster tolerates: control-plane hosts, and pools if all have taints.

    A pool without taints is where such pods belong; where there is none they would wait for ever.
    """
    found: list[Mapping[str, str]] = [
        {"key": "CriticalAddonsOnly", "operator": "Exists"},
        {"effect": "NoSchedule", "key": CONTROL_PLANE, "operator": "Exists"},
    ]
    if all(pool.taints for pool in cluster.pools):
        found += [
            {"effect": taint.effect, "key": taint.key, "operator": "Exists"}
            for pool in cluster.pools
            for taint in pool.taints
        ]
    return [one for number, one in enumerate(found) if one not in found[:number]]
