"""Holds the GPUs of one machine against its pool: do they fit, and which driver follows: pure."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from bootstrap.gpu.choosing import Choice, held, present
from bootstrap.gpu.mig import parted
from bootstrap.gpu.resolver import (
    VENDOR,
    Answer,
    Refusal,
    for_any,
    products_of,
    resolve,
    unknown_of,
    vouched,
)
from bootstrap.gpu.rows import Flavour, Route, Source
from bootstrap.gpu.table import BY_ID, BY_KEY
from bootstrap.model import Cluster, Gpu, Os, Pool

ADVICE = "look for its seating, riser and power, and for Above 4G decoding in the firmware"


def judged(pool: Pool, devices: Sequence[str], *, secure_boot: bool | None = None) -> Answer | None:
    """Return what `pool` makes of a machine that shows NVIDIA GPUs with these device ids.

    `secure_boot` is whether its firmware starts only what is signed; None: it did not say. The driver is the one that
    all nodes of the pool get: image and documents are made before a machine is seen. None: the pool has no `gpu:`
    section, and nothing is done about GPUs.
    """
    if pool.gpu is None:
        return None
    return _misdeclared(pool, devices) or _allowed(
        _driven(pool, pool.gpu, devices), secure_boot=bool(secure_boot)
    )


def _allowed(answer: Answer, *, secure_boot: bool) -> Answer:
    """Return `answer`, or a refusal of a driver whose modules the kernel would not load."""
    if not secure_boot or not isinstance(answer, Choice) or answer.source.route is Route.SYSEXT:
        return answer
    return Refusal(
        f"its firmware has Secure Boot on, and nobody signs the modules of driver {answer.source.title}"
        f" for {answer.source.family}",
        "switch Secure Boot off in its firmware",
    )


def is_as_declared(pool: Pool, devices: Sequence[str]) -> bool:
    """Return whether these GPUs are as many and of the kind that `pool` says."""
    return _misdeclared(pool, devices) is None


def loaded(pool: Pool, driver: tuple[int, Flavour], devices: Sequence[str]) -> Source | None:
    """Return a driver (branch, flavour) that a node has loaded, if it drives these GPUs for the pool's CUDA version."""
    if pool.gpu is None or unknown_of(devices):
        return None
    return present(pool.os, driver, products_of(devices), pool.gpu.cuda_version)


def _misdeclared(pool: Pool, devices: Sequence[str]) -> Refusal | None:
    return _miscounted(pool, devices) or _another_kind(pool, devices)


def _driven(pool: Pool, gpu: Gpu, devices: Sequence[str]) -> Answer:
    answer, planned = resolve(devices, pool.os, gpu), declared(pool)
    if not isinstance(answer, Choice) or not isinstance(planned, Choice):
        return answer
    products = products_of(devices)
    keys = ", ".join(one.key for one in products)
    found = held(planned.source, products, gpu.cuda_version, pool.os.release)
    return (found and vouched(found, devices)) or Refusal(
        f"nodes of pool {pool.name} get driver {planned.source.title}, and {names_of(devices)} wants"
        f" {answer.source.title}",
        f"write products: [{keys}] in a pool for such machines",
    )


def declared(pool: Pool) -> Answer | None:
    """Return the answer for the GPUs that the pool declares, or, if it declares none, for any; None as for judged."""
    return declared_for(pool.os, pool.gpu) if pool.gpu is not None else None


def declared_for(os: Os, gpu: Gpu) -> Answer:
    """Return the answer for the GPUs that a pool's section declares, or, if it declares none, for any."""
    ids = [BY_KEY[key].ids[0] for key in gpu.products if key in BY_KEY]
    return resolve(ids, os, gpu) if ids else for_any(os, gpu)


def is_required(gpu: Gpu) -> bool:
    """Return whether a machine without any GPU lacks something: only a pool that wants nothing of them does not."""
    return gpu.install_cuda or gpu.expected is not None or bool(gpu.products)


def choices(cluster: Cluster) -> Iterator[str]:
    """Yield a line per pool with a `gpu:` section: which GPUs it declares, and which driver they get."""
    for pool in cluster.pools:
        if pool.gpu is not None:
            names = declared_names(pool) or "any GPU"
            told = "; ".join((str(declared(pool)), *parted(pool)))
            yield f"pool {pool.name}, {names} on {pool.os.family} {pool.os.release}: {told}"


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
