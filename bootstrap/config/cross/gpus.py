"""Rules of the GPUs of pools: products and CUDA versions that are known, and a driver that exists."""

from collections.abc import Callable, Iterator

from bootstrap.config.cross.pools import families
from bootstrap.config.cross.view import View
from bootstrap.config.suggest import choice
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.gpu.mig import PROFILES, fitting, known, profile_of, strategy_for, unparted
from bootstrap.gpu.resolver import Refusal, for_any, resolve
from bootstrap.gpu.rows import numbers
from bootstrap.gpu.table import BY_CUDA, BY_KEY, CUDA
from bootstrap.model import Gpu, Os
from bootstrap.model.base import shown
from bootstrap.model.mig import MOST, is_profile
from bootstrap.model.pool import BRANCHES


def known_products(view: View) -> Iterator[Problem]:
    """A product is one of the table of GPUs."""
    for pool in view.each("pools"):
        for path, key in view.texts(*pool, "gpu", "products"):
            if (
                key not in BY_KEY and key == key.lower() and key.replace("-", "").isalnum()
            ):  # else: no name at all
                yield view.problem(path, f"{shown(key)} is no GPU of the table; {_meant(key)}")


def known_cuda(view: View) -> Iterator[Problem]:
    """A CUDA version is one of the table, where one is to be installed."""
    for pool in view.each("pools"):
        cuda = view.text(*pool, "gpu", "cudaVersion")
        if cuda is not None and numbers(cuda) and cuda not in BY_CUDA and _installs(view, pool):
            yield view.problem(
                (*pool, "gpu", "cudaVersion"),
                f"{shown(cuda)} is in no row of the table of CUDA versions, whose newest is {CUDA[-1].version}; "
                f"{_near(cuda)}",
            )


def has_driver(view: View) -> Iterator[Problem]:
    """There is a driver for what the pool declares, on its operating system."""
    for pool in view.each("pools"):
        os, gpu = _os(view, pool), _gpu(view, pool)
        if os is None or gpu is None:
            continue
        ids = [BY_KEY[key].ids[0] for key in gpu.products]
        answer = resolve(ids, os, gpu) if ids else for_any(os, gpu)
        if isinstance(answer, Refusal):
            yield view.key_problem((*pool, "gpu"), str(answer))


def mig_fits(view: View) -> Iterator[Problem]:
    """GPUs are parted into profiles that their product has, and that fit on it beside each other."""
    for pool in view.each("pools"):
        path = (*pool, "gpu", "mig")
        if not view.has(*path):
            continue
        if not _installs(view, pool):
            yield view.problem(path, "GPUs are parted by their driver; remove it, or installCuda: false")
            continue
        products = sorted({key for _, key in view.texts(*pool, "gpu", "products")})
        if not products and not list(view.each(*pool, "gpu", "products")):
            yield view.problem(
                path, "nobody says which GPUs are to be parted; write products: and their kind beside it"
            )
        if products and BY_KEY.keys() >= set(products):
            yield from _misfits(view, path, products)


def _misfits(view: View, path: Path, products: list[str]) -> Iterator[Problem]:
    """Yield what is wrong with the profiles at `path` for these products, which are all known."""
    if why := next(filter(None, map(unparted, products)), ""):
        yield view.problem(path, f"{why}; remove it, or write one of these products: {', '.join(PROFILES)}")
        return
    if len(products) > 1:
        yield view.problem(
            path,
            f"{' and '.join(products)} are parted each its own way; write one of them, and a pool for each kind",
        )
        return
    (product,), one = products, view.text(*path)
    named = list(view.texts(*path)) if one is None else [(path, one)]
    wrong = [(place, name) for place, name in named if not profile_of(product, name)]
    for place, name in wrong:
        if is_profile(name):  # else others report it
            yield view.problem(
                place, f"{BY_KEY[product].name} has no profile {shown(name)}; write one of {known(product)}"
            )
    names = tuple(name for _, name in named)
    if not wrong and len(names) <= MOST and len(fits := fitting(product, names)) < len(names):
        yield view.problem(
            path,
            f"{', '.join(names)} do not fit on one {BY_KEY[product].name}; write fewer, such as [{', '.join(fits)}]",
        )


def instances_are_offered(view: View) -> Iterator[Problem]:
    """The device plugin, if it is told how, offers the instances that pools part their GPUs into."""
    asked = []
    for pool in view.each("pools"):
        path = (*pool, "gpu", "mig")
        if view.has(*path) and _installs(view, pool):
            asked.append(view.text(*path) or {name for _, name in view.texts(*path)})
    for addon in view.each("addons"):
        path = (*addon, "nvidia-device-plugin", "migStrategy")
        told = view.text(*path)
        is_many = any(isinstance(one, set) and len(one) > 1 for one in asked)
        if (told == "none" and asked) or (told == "single" and is_many):
            how = strategy_for("" if isinstance(one, str) or len(one) == 1 else one for one in asked)
            none, one = (
                "offers no instances, and pools want some",
                "offers instances of one profile on each node, and",
            )
            what = none if told == "none" else f"{one} pools want others"
            yield view.problem(path, f"{told} {what}; remove it, or write {how}")


def _meant(key: str) -> str:
    """Return which products an unknown one may be: those that begin so, else the one that is written most alike."""
    kinds = [known for known in BY_KEY if known.startswith(f"{key}-")]
    return f"write one of {', '.join(kinds)}" if kinds else choice(key, BY_KEY)


def _installs(view: View, pool: Path) -> bool:
    return view.read(lambda value: value is False, *pool, "gpu", "installCuda") is not True


def _os(view: View, pool: Path) -> Os | None:
    """Return the operating system of a pool; None if it is malformed or of no family, which others report."""
    family, release = view.text(*pool, "os", "family"), view.text(*pool, "os", "release")
    try:
        return Os.model_validate({"family": family, "release": release}) if family in families() else None
    except ValueError:
        return None


def _gpu(view: View, pool: Path) -> Gpu | None:
    """Return the part of the `gpu:` section that decides; None if it is absent or malformed, which others report."""
    cuda = view.text(*pool, "gpu", "cudaVersion")
    products = tuple(key for _, key in view.texts(*pool, "gpu", "products"))
    if not view.keys(*pool, "gpu") or not _installs(view, pool):
        return None
    if (view.has(*pool, "gpu", "cudaVersion") and cuda not in BY_CUDA) or not BY_KEY.keys() >= set(products):
        return None
    driver = view.read(_branch, *pool, "gpu", "driver")
    if view.has(*pool, "gpu", "driver") and driver is None:
        return None
    return Gpu.model_construct(install_cuda=True, cuda_version=cuda, products=products, driver=driver)


def _branch(value: object) -> int | None:
    """Return a driver's branch; None for what is malformed."""
    return value if isinstance(value, int) and BRANCHES[0] <= value <= BRANCHES[1] else None


def _near(cuda: str) -> str:
    """Return the versions next to an unknown one, as an advice."""
    older = [row.version for row in CUDA if numbers(row.version) < numbers(cuda)]
    newer = [row.version for row in CUDA if numbers(row.version) > numbers(cuda)]
    return "write " + " or ".join(f'"{version}"' for version in (*older[-1:], *newer[:1]))


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (
    known_products,
    known_cuda,
    has_driver,
    mig_fits,
    instances_are_offered,
)
