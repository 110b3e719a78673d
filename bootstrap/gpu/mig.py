"""Into what a GPU can be parted (MIG): profiles and how many of each fit, as data with sources, and what follows: pure.

A GPU has slices of memory; an instance takes as many beside each other as its profile is wide, from a start that the
hardware allows. Read on 2026-11-24:

  profiles    docs.nvidia.com, MIG User Guide, "Supported MIG Profiles" (editions 580 and later): names and "Number of
              Instances Available" of A30, A100 (40GB, and by its note 80GB), H100 80GB and 94GB, H200, B200
  placements  `nvidia-smi mig -lgipp` as printed there ("Getting Started with MIG", A100), and as users of A30, A100
              80GB, H100 80GB and H100 NVL published it: all with seven slices of compute print the same starts. Of H200
              and B200 no such print was found; the guide's fractions of memory and numbers are those of H100.

Not here: profiles with +me, -me and +gfx (media engines, graphics); H20, which the guide lists without profiles; GH200
and GB200, for which there are no images; B300; RTX PRO Blackwell, of which editions 580 and later say different things.
1g.10gb of A100 40GB and 1g.20gb of the others came with driver 525: all that anybody offers (table.py) are later.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bootstrap.gpu.table import BY_KEY
from bootstrap.gpu.taint import INSTANCES, RESOURCE
from bootstrap.model import Cluster, Gpu, Pool


@dataclass(frozen=True)
class Profile:
    """A kind of instance: `width` slices of memory, from one of `starts`; `most` fit on a GPU without others."""

    name: str
    width: int
    starts: tuple[int, ...]
    most: int

    @property
    def compute(self) -> int:
        """Return how many slices of compute it has: 3 of 3g.40gb."""
        return int(self.name.partition("g")[0])


_SEVENTHS = (  # width, starts, most: of GPUs with seven slices of compute and eight of memory
    (1, (0, 1, 2, 3, 4, 5, 6), 7),
    (2, (0, 2, 4, 6), 4),
    (2, (0, 2, 4), 3),
    (4, (0, 4), 2),
    (4, (0,), 1),
    (8, (0,), 1),
)


def _sevenths(names: str) -> tuple[Profile, ...]:
    """Return the profiles of a GPU with seven slices of compute: 1g, 1g with twice the memory, 2g, 3g, 4g, 7g."""
    return tuple(Profile(name, *rest) for name, rest in zip(names.split(), _SEVENTHS, strict=True))


_A30 = (
    Profile("1g.6gb", 1, (0, 1, 2, 3), 4),
    Profile("2g.12gb", 2, (0, 2), 2),
    Profile("4g.24gb", 4, (0,), 1),
)
_40GB = _sevenths("1g.5gb 1g.10gb 2g.10gb 3g.20gb 4g.20gb 7g.40gb")
_80GB = _sevenths("1g.10gb 1g.20gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb")
_94GB = _sevenths("1g.12gb 1g.24gb 2g.24gb 3g.47gb 4g.47gb 7g.94gb")
_H200 = _sevenths("1g.18gb 1g.35gb 2g.35gb 3g.71gb 4g.71gb 7g.141gb")
_B200 = _sevenths("1g.23gb 1g.45gb 2g.45gb 3g.90gb 4g.90gb 7g.180gb")

PROFILES: Mapping[str, tuple[Profile, ...]] = MappingProxyType(
    {
        "a30": _A30,
        "a100-pcie-40gb": _40GB,
        "a100-sxm4-40gb": _40GB,
        "a100-pcie-80gb": _80GB,
        "a100-sxm4-80gb": _80GB,
        "h100-pcie": _80GB,
        "h100-sxm": _80GB,
        "h100-nvl": _94GB,
        "h100-sxm-94gb": _94GB,
        "h200-nvl": _H200,
        "h200-sxm": _H200,
        "b200": _B200,
    }
)
"""The profiles of products (table.py), the smallest first."""


def known(product: str) -> str:
    """Return the profiles of a product, in words."""
    return ", ".join(profile.name for profile in PROFILES[product])


def unparted(product: str) -> str:
    """Return why a product of the table cannot be parted here; empty if it can."""
    if not BY_KEY[product].has_mig:
        return f"{BY_KEY[product].name} cannot be parted (MIG)"
    return (
        ""
        if product in PROFILES
        else f"the MIG profiles of {BY_KEY[product].name} are in no row of the table"
    )


def profile_of(product: str, name: str) -> Profile | None:
    """Return the profile of this name that a product has; None if it has none."""
    return next((one for one in PROFILES.get(product, ()) if one.name == name), None)


def fitting(product: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return as many of `names`, from the first on, as fit on one GPU beside each other; all if all do."""
    found: list[str] = []
    for name in names:
        profiles = [profile_of(product, each) for each in (*found, name)]
        if _is_placeable(_largest_first([one for one in profiles if one])):
            found.append(name)
    return tuple(found)


def _is_placeable(profiles: Sequence[Profile], taken: int = 0) -> bool:
    """Return whether instances of all `profiles` find a place; `taken` has a bit for each slice that is."""
    if not profiles:
        return True
    for start in profiles[0].starts:
        place = ((1 << profiles[0].width) - 1) << start
        if not taken & place and _is_placeable(profiles[1:], taken | place):
            return True
    return False


def _largest_first(profiles: Iterable[Profile]) -> list[Profile]:
    """Return them in the order in which they are made: what is made first finds most room."""
    return sorted(profiles, key=lambda one: (-one.compute, -one.width))


def layout(gpu: Gpu | None) -> tuple[str, ...]:
    """Return the profiles of the instances that each GPU of a pool is to have, largest first; none without `mig`."""
    if gpu is None or gpu.mig is None or not gpu.install_cuda or not gpu.products:
        return ()
    product, names = gpu.products[0], (gpu.mig,) if isinstance(gpu.mig, str) else gpu.mig
    profiles = [one for name in names if (one := profile_of(product, name))]
    if isinstance(gpu.mig, str):
        profiles = [one for one in profiles for _ in range(one.most)]
    return tuple(one.name for one in _largest_first(profiles))


def in_words(names: Sequence[str]) -> str:
    """Return profiles with how many there are of each: `1 x 3g.40gb, 4 x 1g.10gb`."""
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def strategy(cluster: Cluster) -> str:
    """Return how NVIDIA's device plugin offers instances, in its words: none, single (as GPUs) or mixed (by profile).

    There is one plugin for all pools: it is what the addon's options say, else mixed if a pool has a list.
    """
    chosen = (addon.nvidia_device_plugin for addon in cluster.addons)
    asked = next((options.mig_strategy for options in chosen if options is not None), None)
    return asked or strategy_for(pool.gpu.mig for pool in cluster.pools if pool.gpu and layout(pool.gpu))


def strategy_for(values: Iterable[object]) -> str:
    """Return the strategy that the `mig` of pools asks for: text for one profile, anything else for a list."""
    kinds = {isinstance(value, str) for value in values if value is not None}
    return "mixed" if False in kinds else "single" if kinds else "none"


def resources(pool: Pool, gpus: int, how: str) -> dict[str, int]:
    """Return what Kubernetes is to give out on a node of `pool` with so many GPUs, by the name of the resource."""
    parts = layout(pool.gpu)
    if not parts:
        return {RESOURCE: gpus}
    if how != "mixed":
        return {RESOURCE: gpus * len(parts)}
    return {resource_of(name): gpus * parts.count(name) for name in dict.fromkeys(parts)}


def resource_of(profile: str) -> str:
    """Return what the device plugin calls instances of a profile with the strategy mixed."""
    return f"{INSTANCES}{profile}"


def offered(cluster: Cluster) -> tuple[str, ...]:
    """Return what Kubernetes gives out of the GPUs of a cluster by name: whole ones first, then the smallest."""
    how = strategy(cluster)
    pools = [pool for pool in cluster.pools if pool.gpu is not None and pool.gpu.install_cuda]
    found = {name for pool in pools for name in resources(pool, 1, how)}
    return tuple(sorted(found, key=lambda name: (name != RESOURCE, name)))


def parted(pool: Pool) -> Iterator[str]:
    """Yield how the GPUs of a pool are parted, in words; nothing if they are not."""
    if names := layout(pool.gpu):
        yield f"each parted into {in_words(names)} (MIG)"
