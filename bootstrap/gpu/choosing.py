"""Chooses the best offered driver for GPUs on an operating system, or gives the first reason against: pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bootstrap.gpu.rows import BOTH, ONLY_CLOSED, ONLY_OPEN, Flavour, Product, Route, Source, numbers
from bootstrap.gpu.table import BY_CUDA, ENDS, NO_DRIVER, OPEN_BY_DEFAULT, SOURCES
from bootstrap.model import Os

HOST = "amd64"
"""The processors that machines have here."""
PREFERENCE = (Route.SYSEXT, Route.PACKAGES, Route.SERVICE)
"""What was built before the machine is installed comes first."""


@dataclass(frozen=True)
class Choice:
    """The driver: where it comes from, and what is to be known of it besides."""

    source: Source
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it on one line: branch, flavour, route, names, notes."""
        row = self.source
        driver = f"driver {row.version or row.branch} ({row.flavour})"
        where = {
            Route.SYSEXT: f"sysext {' '.join(row.names)}",
            Route.PACKAGES: f"packages {' '.join(row.names)} of {row.suite}",
            Route.SERVICE: "compiled by nvidia.service at the first boot",
        }[row.route]
        return "; ".join((f"{driver}, {where}", *self.notes))


def choice(
    products: Sequence[Product],
    os: Os,
    cuda: str | None,
    branch: int | None = None,
    *,
    without: Source | None = None,
) -> Choice | str:
    """Return the driver for `products` (none: for any), or the first reason why there is none.

    With a `branch` it is of that one; `without` is a driver that was seen not to work on its release.
    """
    if reason := _contradiction(products) or _cuda_contradiction(products, cuda):
        return reason
    rows = [row for row in offered(os.family, os.release) if without is None or not row.is_like(without)]
    if not rows:
        return _nothing_offered(os)
    here = f"{os.family} {os.release}"
    for rule, wish in _rules(products, cuda, branch):
        if not any(map(rule, rows)):
            return f"{wish}; {here} offers {_offers(rows)}"
        rows = [row for row in rows if rule(row)]
    whole = [row for row in rows if not row.broken]
    if not whole:
        return rows[0].broken
    best = max(whole, key=_rank)
    return Choice(best, _notes(best, products, os.release))


def held(row: Source, products: Sequence[Product], cuda: str | None, release: str = "") -> Choice | None:
    """Return the choice of `row`, which is decided already, if it drives `products` too; else None."""
    drives = all(rule(row) for rule, _ in _rules(products, cuda, None))
    return Choice(row, _notes(row, products, release)) if drives else None


def present(
    os: Os, title: tuple[int, Flavour], products: Sequence[Product], cuda: str | None
) -> Source | None:
    """Return a driver that is there already (branch, flavour) as a row, if it drives `products` too; else None.

    Whether the table would choose it today, or has it at all, does not matter.
    """
    branch, flavour = title
    row = Source(family=os.family, since=os.release, branch=branch, flavour=flavour, route=Route.PACKAGES)
    return row if held(row, products, cuda) else None


Rule = tuple[Callable[[Source], bool], str]


def _rules(products: Sequence[Product], cuda: str | None, branch: int | None) -> Iterable[Rule]:
    """Yield what a row must hold, with the words for that."""
    low, high = max((one.first for one in products), default=0), _last(products)
    yield (
        lambda row: low <= row.branch and (high is None or row.branch <= high),
        f"{_who(products)} {_wants(low, high)}",
    )
    flavours = _flavours(products)
    yield (lambda row: row.flavour in flavours, f"{_who(products)} the {_only(flavours)} kernel modules")
    if cuda is not None:
        least = BY_CUDA[cuda].branch
        yield (lambda row: row.branch >= least, f"CUDA {cuda} wants driver {least} or later")
    if branch is not None:
        yield (lambda row: row.branch == branch, f"driver {branch} is wanted")


def _contradiction(products: Sequence[Product]) -> str:
    """Return why no system of ours could drive these GPUs together; empty if one might."""
    if foreign := [one for one in products if one.host != HOST]:
        return f"{foreign[0].name} is part of an {foreign[0].host} machine, and images are for {HOST}"
    low, high = max(products, key=lambda one: one.first, default=None), _last(products)
    if low and high and low.first > high:
        old = next(one for one in products if one.last == high)
        return f"no driver drives all of it: {old.name} has none after {high}, {low.name} none before {low.first}"
    if not _flavours(products):
        closed = next(one for one in products if one.generation.flavours == ONLY_CLOSED)
        opened = next(one for one in products if one.generation.flavours == ONLY_OPEN)
        return f"no driver drives all of it: {closed.name} wants the closed kernel modules, {opened.name} the open"
    return ""


def _cuda_contradiction(products: Sequence[Product], cuda: str | None) -> str:
    """Return why these GPUs could not run that CUDA version on any system; empty if they might."""
    if cuda is None:
        return ""
    if cuda not in BY_CUDA:
        return f"CUDA {cuda} is in no row of the table of CUDA versions"
    for one in products:
        if numbers(cuda) < numbers(one.first_cuda):
            return f"{one.name} came with CUDA {one.first_cuda}; CUDA {cuda} does not know it"
        if one.generation.last_cuda and numbers(cuda) > numbers(one.generation.last_cuda):
            return f"CUDA {one.generation.last_cuda} was the last for {one.name}; CUDA {cuda} dropped it"
    least, high = BY_CUDA[cuda].branch, _last(products)
    if high and least > high:
        return f"CUDA {cuda} wants driver {least} or later, and {_names(products)} none after {high}"
    return ""


def offered(family: str, release: str) -> list[Source]:
    """Return the rows of a release; none where the release is unknown, or a channel's name."""
    return [
        row
        for row in SOURCES
        if row.family == family
        and (release == row.since if row.only else numbers(release) >= numbers(row.since))
    ]


def _nothing_offered(os: Os) -> str:
    if reason := NO_DRIVER.get(os.family):
        return reason
    if not numbers(os.release):
        return f"{os.family} {os.release} is no version: which drivers it offers changes with the day"
    since = sorted({row.since for row in SOURCES if row.family == os.family}, key=numbers)
    if not since:
        return f"no driver is known for {os.family}"
    return f"no driver is known for {os.family} {os.release}; there are for {', '.join(since)}"


def _notes(row: Source, products: Sequence[Product], release: str) -> tuple[str, ...]:
    switched = [one for one in products if one.is_switched]
    whole = [one for one in products if row.branch < one.first_mig]
    notes = (
        f"whether {row.family} {release} still offers it was not looked up, {row.seen} did"
        if row.is_later(release)
        else "",
        "" if row.built else "nobody has seen its modules built for this release's kernel",
        f"boards of eight {_names(switched)} need NVIDIA's fabric manager too, which is not offered there"
        if switched
        else "",
        "" if row.route is Route.SYSEXT else "its modules are not signed: Secure Boot must be off",
        f"it cannot part {_names(whole)} (MIG), which {max(one.first_mig for one in whole)} can"
        if whole
        else "",
        f"NVIDIA's updates of {row.branch} end {ENDS[row.branch]}" if row.branch in ENDS else "",
    )
    return tuple(filter(None, notes))


def _rank(row: Source) -> tuple[int, int, bool]:
    """Order rows: the newest branch, then the better route, then the flavour that NVIDIA suggests for the branch."""
    suggested = Flavour.OPEN if row.branch >= OPEN_BY_DEFAULT else Flavour.CLOSED
    return (row.branch, -PREFERENCE.index(row.route), row.flavour is suggested)


def _last(products: Sequence[Product]) -> int | None:
    return min((one.last for one in products if one.last is not None), default=None)


def _flavours(products: Sequence[Product]) -> frozenset[Flavour]:
    return BOTH.intersection(*(one.generation.flavours for one in products))


def _wants(low: int, high: int | None) -> str:
    return f"driver {low} or later" if high is None else f"a driver from {low} to {high}"


def _who(products: Sequence[Product]) -> str:
    return f"{_names(products)} {'want' if len(products) > 1 else 'wants'}"


def _only(flavours: frozenset[Flavour]) -> str:
    return " or ".join(sorted(flavours))


def _names(products: Sequence[Product]) -> str:
    return " and ".join(one.name for one in products) or "any GPU"


def _offers(rows: Sequence[Source]) -> str:
    """Return branches and flavours of `rows` in few words: 535 (closed), 570 (closed, open)."""
    found: dict[int, set[str]] = {}
    for row in rows:
        found.setdefault(row.branch, set()).add(row.flavour)
    return ", ".join(f"{branch} ({', '.join(sorted(kinds))})" for branch, kinds in sorted(found.items()))
