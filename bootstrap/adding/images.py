"""The images of a cluster's addons as the mirror wants them: with their digests."""

from bootstrap.adding.rendering import chosen, images
from bootstrap.addons import brings_images
from bootstrap.errors import UsageError
from bootstrap.model import Cluster


def mirrored(cluster: Cluster) -> tuple[str, ...]:
    """Return what the mirror is to have: `mirror.images`, and those of addons that are not among them.

    Raises:
        UsageError: an addon's image has no digest that is known here, and the configuration does not say it.
    """
    listed = {image.partition("@")[0] for image in cluster.mirror.images}
    more = [image for image in images(cluster) if image.name not in listed] if brings_images(cluster) else []
    if lacks := [image.name for image in more if image.digest is None]:
        names = ", ".join(one.name for one in chosen(cluster))
        raise UsageError(
            "\n".join(
                f"addons ({names}): {name} would not be in the mirror; add {name}@sha256:<digest> to mirror.images"
                for name in lacks
            )
        )
    return (*cluster.mirror.images, *(image.pinned for image in more))
