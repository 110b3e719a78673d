"""Which image of the cache a pool gets: the one with its driver, and until that is built an earlier one."""

from pathlib import Path

from bootstrap.artifacts import Kind, Manifest, find_manifest, is_known, kind_of, manifests
from bootstrap.gpu.images import image_driver, is_enough
from bootstrap.model import Pool


def kind_for(pool: Pool) -> Kind:
    """Return the kind of image that `pool` is to have."""
    return (pool.os.family, pool.os.release, pool.os.kernel, image_driver(pool))


def image_for(cache: Path, pool: Pool) -> Manifest | None:
    """Return the image of `pool`, or None if there is none.

    The driver that a pool gets changes with the table of drivers. Where no image with the new one was ever made, the
    newest whose driver serves the pool too is the pool's still; one that is damaged has no substitute.
    """
    kind = kind_for(pool)
    if not kind[-1] or is_known(cache, *kind):
        return find_manifest(cache, *kind)
    former = (
        one for one in manifests(cache) if kind_of(one)[:-1] == kind[:-1] and is_enough(pool, one.driver)
    )
    return next(former, None)
