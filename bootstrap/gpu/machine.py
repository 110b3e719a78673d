"""Holds the GPUs of one machine against its pool: do they fit, and which driver follows: pure."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from bootstrap.gpu.resolver import VENDOR, Answer, Refusal, for_any, products_of, resolve, unknown_of
from bootstrap.gpu.table import BY_ID, BY_KEY
from bootstrap.model import Cluster, Pool

ADVICE = "look for its seating, riser and power, and for Above 4G decoding in the firmware"


def judged(pool: Pool, devices: Sequence[str]) -> Answer | None:
    """Return what `pool` makes of a machine that shows NVIDIA GPUs with these device ids.

    None: the pool has no `gpu:` section, and nothing is done about GPUs.
    """
    if pool.gpu is None:
        return None
    return _miscounted(pool, devices) or _another_kind(pool, devices) or resolve(devices, pool.os, pool.gpu)


def declared(pool: Pool) -> Answer | None:
    """Return the answer for the GPUs that the pool declares, or, if it declares none, for any; None as for judged."""
    if pool.gpu is None:
        return None
    ids = [BY_KEY[key].ids[0] for key in pool.gpu.products if key in BY_KEY]
    return resolve(ids, pool.os, pool.gpu) if ids else for_any(pool.os, pool.gpu)


def choices(cluster: Cluster) -> Iterator[str]:
    """Yield a line per pool that declares its GPUs: which they are, and which driver they get."""
    for pool in cluster.pools:
        if names := declared_names(pool):
            yield f"pool {pool.name}, {names} on {pool.os.family} {pool.os.release}: {declared(pool)}"


def declared_names(pool: Pool) -> str:
    """Return the GPUs that the pool declares, in words: `8 x H100 80GB HBM3`; empty if it declares none."""
    if pool.gpu is None or not pool.gpu.products:
        return ""
    names = _in_words(pool.gpu.products)
    return f"{pool.gpu.expected} x {names}" if pool.gpu.expected else names


def names_of(devices: Sequence[str]) -> str:
    """Return GPUs in words, each kind with how many there are: `8 x H100 80GB HBM3 (10de:2330)`."""
    return _told(devices, lambda _: "")


def details_of(devices: Sequence[str]) -> str:
    """Return GPUs as names_of, with generation and whether they can be parted (MIG)."""
    return _told(devices, _details)


def _told(devices: Sequence[str], more: Callable[[str], str]) -> str:
    counted = sorted(Counter(devices).items())
    return ", ".join(f"{count} x {_name(one)} ({VENDOR}:{one}{more(one)})" for one, count in counted)


def _name(device: str) -> str:
    return BY_ID[device].name if device in BY_ID else "unknown GPU"


def _details(device: str) -> str:
    if device not in BY_ID:
        return ""
    product = BY_ID[device]
    return f", {product.generation.name}" + (", MIG-capable" if product.has_mig else "")


def _in_words(keys: Sequence[str]) -> str:
    return " and ".join(BY_KEY[key].name if key in BY_KEY else key for key in keys)


def _miscounted(pool: Pool, devices: Sequence[str]) -> Refusal | None:
    """Return why the number of GPUs is not the one that the pool expects; None if it is, or none is expected."""
    expected, found = pool.gpu.expected if pool.gpu else None, len(devices)
    if expected is None or found == expected:
        return None
    shown = f"{found}: {names_of(devices)}" if found else "none"
    advice = ADVICE if found < expected else "write the number that it has"
    return Refusal(
        f"pool {pool.name} expects {expected} GPUs, it shows {shown}", f"{advice}, or change expected"
    )


def _another_kind(pool: Pool, devices: Sequence[str]) -> Refusal | None:
    """Return which GPUs are not what the pool declares; None if all are, or nothing is declared."""
    wanted = pool.gpu.products if pool.gpu else ()
    found = {one.key for one in products_of(devices)}
    if not wanted or not devices or (found <= set(wanted) and not unknown_of(devices)):
        return None
    return Refusal(
        f"pool {pool.name} is for {_in_words(wanted)}, it shows {names_of(devices)}",
        "choose another pool, or change products",
    )
