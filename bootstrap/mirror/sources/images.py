"""Container images in registries, by digest: what a digest names is one thing for ever, whoever serves it."""

from bootstrap.adding.images import mirrored
from bootstrap.errors import UsageError
from bootstrap.mirror.item import Ask, Digest, Item, Wanted
from bootstrap.mirror.places import image_path
from bootstrap.mirror.sources import Source
from bootstrap.model import Cluster

SCHEME = "docker://"
"""How skopeo calls what is in a registry (containers-transports(5))."""


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return the images of the configuration and of its addons.

    Raises:
        UsageError: `sandboxImage` or an image of an addon would be fetched by nodes, for no image of that name is
            listed with its digest.
    """
    _sandbox_listed(cluster)
    return tuple(
        Wanted(
            source="images",
            name=name.partition("@")[0],
            version=name.partition("@")[2],
            url=f"{SCHEME}{_place(name, cluster)}",
        )
        for name in mirrored(cluster)
    )


def _sandbox_listed(cluster: Cluster) -> None:
    sandbox = cluster.kubernetes.sandbox_image
    given = cluster.kubernetes.binaries
    if sandbox is None or given.directory is not None or given.build is not None:
        return
    name = sandbox.partition("@")[0]
    if name not in {image.partition("@")[0] for image in cluster.mirror.images}:
        raise UsageError(
            f"kubernetes.sandboxImage {sandbox} would not be in the mirror; add {name}@sha256:<digest> to mirror.images"
        )


def _place(image: str, cluster: Cluster) -> str:
    """Return where the image is fetched: its registry or that one's copy, by digest and without the tag."""
    name, _, digest = image.partition("@")
    registry, _, path = name.partition("/")
    path = path.partition(":")[0]  # skopeo takes a tag or a digest
    return f"{cluster.mirror.registries.get(registry, registry)}/{path}@{digest}"


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the image; the digest is that of its manifest."""
    del ask
    path = image_path(f"{wanted.name}@{wanted.version}")
    return (Item(path=path, url=wanted.url, digest=Digest(*wanted.version.split(":"))),)


PLUGIN = Source(title="container images", wanted=wanted, items=items, is_image=True)
