"""Names that must be unique, and names that must exist."""

from collections.abc import Callable, Iterator

from bootstrap.config.cross.view import View
from bootstrap.config.suggest import choice
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.model.types import mac_from

HOSTS: Path = ("controlPlane", "hosts")


def unique_names(view: View) -> Iterator[Problem]:
    """Pools, control-plane hosts, machines and virtual machines are told apart by name."""
    virtual = [*view.each("lab", "machines"), *view.each("lab", "hosts")]
    for items in (view.each("pools"), virtual):
        yield from _twice(view, [((*item, "name"), view.text(*item, "name")) for item in items])
    nodes = [(*item, "name") for item in (*view.each(*HOSTS), *view.each("machines"))]
    yield from _twice(view, [(path, view.text(*path)) for path in nodes])


def unique_macs(view: View) -> Iterator[Problem]:
    """A machine is recognised by its MAC address."""
    for places in ((("machines",), HOSTS), (("lab", "machines"),)):
        paths = [(*item, "mac") for place in places for item in view.each(*place)]
        yield from _twice(view, [(path, view.read(mac_from, *path)) for path in paths])


def _twice(
    view: View, named: list[tuple[Path, str | None]], advice: str = "write another one"
) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for path, value in named:
        if value is None:
            continue
        if value in first:
            yield view.problem(path, f"{value!r} is taken ({view.where(first[value])}); {advice}")
        else:
            first[value] = path


def known_pools(view: View) -> Iterator[Problem]:
    """A machine belongs to a pool that exists."""
    pools = _names(view, "pools")
    for item in view.each("machines"):
        pool = view.text(*item, "pool")
        if pool is not None and pools and pool not in pools:
            yield view.problem((*item, "pool"), f"there is no pool {pool!r}; {choice(pool, pools)}")


def known_members(view: View) -> Iterator[Problem]:
    """Etcd runs on control-plane hosts."""
    hosts = _names(view, *HOSTS)
    for path, member in view.texts("etcd", "members"):
        if member not in hosts:
            advice = choice(member, hosts) if hosts else "write it under controlPlane.hosts"
            yield view.problem(path, f"there is no control-plane host {member!r}; {advice}")
    yield from _twice(view, list(view.texts("etcd", "members")), "remove one")


def odd_members(view: View) -> Iterator[Problem]:
    """An even number of etcd members bears no more failures than one less, and more than 5 are slow."""
    count = len(list(view.each("etcd", "members")))
    hosts = sorted(_names(view, *HOSTS))
    if count in (1, 3, 5) or not (count or hosts) or not view.open("etcd"):
        return
    usable = max((odd for odd in (1, 3, 5) if odd <= max(len(hosts), 1)), default=1)
    example = f"members: [{', '.join(hosts[:usable])}]" if hosts else "members: [m1]"
    yield view.problem(
        ("etcd", "members"), f"{count} members cannot form a good quorum; write 1, 3 or 5: {example}"
    )


def known_lab_machines(view: View) -> Iterator[Problem]:
    """A virtual machine without a MAC address takes that of the listed machine of the same name."""
    macs = {
        view.text(*item, "name"): view.read(mac_from, *item, "mac")
        for item in view.each("machines")
        if view.text(*item, "name")
    }
    for item in view.each("lab", "machines"):
        name, mac = view.text(*item, "name"), view.read(mac_from, *item, "mac")
        if name and name not in macs and not view.has(*item, "mac"):
            known = [str(machine) for machine in macs]
            advice = choice(name, known) if known else "list it under machines"
            yield view.problem((*item, "name"), f"there is no machine {name!r}; {advice} (or give it a mac)")
        if mac and macs.get(name) not in (None, mac):
            yield view.problem((*item, "mac"), f"{mac!r} is not that of machine {name}; write {macs[name]}")


def known_lab_hosts(view: View) -> Iterator[Problem]:
    """A host of the lab stands for a control-plane host on the rack's network, whose port it has."""
    hosts = _names(view, *HOSTS)
    for item in view.each("lab", "hosts"):
        name = view.text(*item, "name")
        if name and name not in hosts:
            advice = choice(name, hosts) if hosts else "write it under controlPlane.hosts"
            yield view.problem((*item, "name"), f"there is no control-plane host {name!r}; {advice}")


def lab_power(view: View) -> Iterator[Problem]:
    """The lab switches only machines that it has."""
    virtual = _names(view, "lab", "machines")
    for item in view.each("machines"):
        name = view.text(*item, "name")
        if view.text(*item, "power", "driver") == "lab" and name and name not in virtual:
            yield view.problem(
                (*item, "power", "driver"),
                f"{name} is not in the lab; write it under lab.machines, or manual here",
            )


def unique_addons(view: View) -> Iterator[Problem]:
    """An addon is applied once."""
    named: list[tuple[Path, str | None]] = []
    for item in view.each("addons"):
        keys = view.keys(*item)
        name = keys[0] if len(keys) == 1 else view.text(*item)
        if name != "manifests":
            named.append((item, name))
    yield from _twice(view, named, "remove one")


def _names(view: View, *path: str | int) -> set[str]:
    found = {view.text(*item, "name") for item in view.each(*path)}
    return {name for name in found if name}


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (
    unique_names,
    unique_macs,
    known_pools,
    known_members,
    odd_members,
    known_lab_machines,
    known_lab_hosts,
    lab_power,
    unique_addons,
)
