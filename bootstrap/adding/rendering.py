"""The documents of a cluster's addons: the same configuration and the same files, the same documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import bootstrap.addons
from bootstrap import rooms
from bootstrap.adding.record import LABEL
from bootstrap.addons import Addon, Asked, Image, Object
from bootstrap.errors import UsageError
from bootstrap.kubernetes import runtimes
from bootstrap.kubernetes.releases import minor_of
from bootstrap.model import Cluster
from bootstrap.model.addons import Manifests, NvidiaDevicePlugin
from bootstrap.model.base import Model

MANAGED_BY = "app.kubernetes.io/managed-by"
ITSELF = "nvidia-device-plugin"
"""What a cluster with GPU pools has without being asked."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An addon of the configuration, with the options of each of its items; `is_listed` unless it came by itself."""

    name: str
    options: tuple[Model, ...]
    is_listed: bool = True


@dataclass(frozen=True, kw_only=True)
class Given:
    """What documents depend on besides the configuration: see `Asked`; `folders` are files by folder."""

    kubelet_ca: str = ""
    folders: Mapping[str, tuple[tuple[str, bytes], ...]] = field(default_factory=dict)


def addon(name: str) -> Addon:
    """Return the addon called `name`.

    Raises:
        UnknownChoice: there is none.
    """
    return rooms.load(bootstrap.addons, name, Addon, where="addons")


def chosen(cluster: Cluster) -> tuple[Chosen, ...]:
    """Return the addons of `cluster` in their order; several items of one name are one addon."""
    items: dict[str, list[Model]] = {}
    for choice in cluster.addons:
        items.setdefault(choice.name, []).append(choice.options)
    found = [Chosen(name=name, options=tuple(options)) for name, options in items.items()]
    if runtimes.has_gpus(cluster) and ITSELF not in items:
        found.insert(0, Chosen(name=ITSELF, options=(NvidiaDevicePlugin(),), is_listed=False))
    return tuple(found)


def choose(cluster: Cluster, names: tuple[str, ...]) -> tuple[Chosen, ...]:
    """Return the addons called `names` (none: all) of those that are configured.

    Raises:
        UsageError: one is not configured; the text names those that are.
    """
    found = chosen(cluster)
    known = [one.name for one in found]
    for name in names:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise UsageError(f"addon {name} is not in the configuration ({listed}); add it under addons")
    return tuple(one for one in found if not names or one.name in names)


def documents(cluster: Cluster, one: Chosen, given: Given) -> tuple[Object, ...]:
    """Return the objects of an addon, in the order in which they are to be applied.

    Raises:
        ConfigError: a file of a folder holds something that is no object; names file, line and column.
    """
    plugin = addon(one.name)
    found = [each for options in one.options for each in plugin.documents(_asked(cluster, options, given))]
    return tuple(_labelled(each, one.name) for each in found)


def images(cluster: Cluster) -> tuple[Image, ...]:
    """Return the images of all addons of `cluster`, each once."""
    minor = minor_of(cluster.kubernetes.version)
    return tuple(dict.fromkeys(image for one in chosen(cluster) for image in addon(one.name).images(minor)))


def warnings(cluster: Cluster, one: Chosen, given: Given) -> tuple[str, ...]:
    """Return lines for people about what will not do what they think."""
    plugin = addon(one.name)
    return tuple(
        f"addon {one.name}: {text}"
        for options in one.options
        for text in plugin.warnings(_asked(cluster, options, given))
    )


def folders(cluster: Cluster) -> tuple[str, ...]:
    """Return the folders that addons are made of."""
    return tuple(
        options.directory
        for one in chosen(cluster)
        for options in one.options
        if isinstance(options, Manifests)
    )


def _asked(cluster: Cluster, options: Model, given: Given) -> Asked:
    files = given.folders.get(options.directory, ()) if isinstance(options, Manifests) else ()
    return Asked(cluster=cluster, options=options, kubelet_ca=given.kubelet_ca, files=files)


def _labelled(each: Object, name: str) -> Object:
    metadata = each["metadata"]
    labels = {MANAGED_BY: "firstlight", **(metadata.get("labels") or {}), LABEL: name}
    return {**each, "metadata": {**metadata, "labels": labels}}
