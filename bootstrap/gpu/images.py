"""Which driver the nodes of a pool get, whether their image holds it, and which other would do: pure."""

import re
from functools import lru_cache

from bootstrap.gpu.choosing import Choice, choice, present
from bootstrap.gpu.machine import declared_for
from bootstrap.gpu.nearest import nearest
from bootstrap.gpu.resolver import products_of
from bootstrap.gpu.rows import Flavour, Product, Route, Source
from bootstrap.gpu.table import BY_KEY
from bootstrap.model import Gpu, Os, Pool

_TITLE = re.compile(r"([0-9]{1,9}) \((open|closed)\)")


def driver_of(pool: Pool) -> Source | None:
    """Return the driver that the nodes of `pool` get by the GPUs that it declares (none: by any); None for none."""
    return _driver(pool.os, pool.gpu) if pool.gpu is not None else None


@lru_cache(256)
def _driver(os: Os, gpu: Gpu) -> Source | None:
    answer = declared_for(os, gpu)
    return answer.source if isinstance(answer, Choice) else None


def in_image(pool: Pool) -> Source | None:
    """Return the driver that the image of `pool` holds; None where it holds none, or the node brings its own."""
    source = driver_of(pool)
    return source if source is not None and source.route is Route.PACKAGES else None


def forget() -> None:
    """Forget what was chosen: the table is another one."""
    _driver.cache_clear()


def image_driver(pool: Pool) -> str:
    """Return what tells the image of `pool` from others of its system, `535 (closed)`; empty without a driver."""
    source = in_image(pool)
    return source.title if source is not None else ""


def is_enough(pool: Pool, driver: str) -> bool:
    """Return whether an image with `driver` (its title) serves `pool`, which would get another one by now.

    It does if it drives the GPUs that the pool declares, and is of the branch that the pool names, if it names one.
    """
    match, gpu = _TITLE.fullmatch(driver), pool.gpu
    if match is None or gpu is None or gpu.driver not in (None, int(match[1])):
        return False
    title = (int(match[1]), Flavour(match[2]))
    return present(pool.os, title, _declared(gpu), gpu.cuda_version) is not None


def instead(pool: Pool, failed: Source) -> str:
    """Return what a pool can have in place of a driver that did not build: another one of its release, or a system."""
    cuda = pool.gpu.cuda_version if pool.gpu else None
    products = _declared(pool.gpu) if pool.gpu else ()
    advice, found = (
        nearest(products, pool.os, cuda, without=failed),
        choice(products, pool.os, cuda, without=failed),
    )
    if isinstance(found, Choice) and found.source.built:
        return f"{advice}: {found.source.version} was seen to build for {found.source.built}"
    return advice


def _declared(gpu: Gpu) -> tuple[Product, ...]:
    return products_of(BY_KEY[key].ids[0] for key in gpu.products if key in BY_KEY)
