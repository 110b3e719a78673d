"""What leads each host from what is there to its tree, as data in the order of the work. Pure.

Files come first, on all hosts side by side; then unit by unit: what is down starts together, what runs with
something older restarts one host at a time, with a probe before and after. What runs with certificates that have
ended is not well: it restarts together, for members of etcd hear each other again only then.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from bootstrap.apply import etcd_data
from bootstrap.apply.diffs import diff
from bootstrap.apply.expiry import has_ended
from bootstrap.apply.facts import Facts, Found, UnitFacts
from bootstrap.apply.manifest import journal, manifest, sha256_of, stamp_of
from bootstrap.apply.node import (
    FIRST,
    Certify,
    Forget,
    Leave,
    leaving,
    node_text,
    restarts_for_certificate,
    uncertified,
)
from bootstrap.kubernetes.tree import HostFile, HostTree, Unit

UNITS = "/etc/systemd/system/"
ENABLED = frozenset({"enabled", "enabled-runtime", "static", "generated", "alias"})


@dataclass(frozen=True)
class Change:
    """What happens to one file: `kind` is add, change, restore (others changed it), dress (owner or mode) or adopt."""

    path: str
    kind: str
    diff: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Put:
    """Put the files of `changes` in their places and remove `removed`; `unstamp` are the units that read them."""

    host: str
    tree: HostTree = field(repr=False)
    changes: tuple[Change, ...]
    removed: tuple[str, ...] = ()
    unstamp: tuple[str, ...] = ()
    manifest: bytes = field(repr=False)
    journal: bytes = field(repr=False)

    @property
    def sent(self) -> Mapping[str, HostFile]:
        """Return the files that travel."""
        return {each.path: self.tree.files[each.path] for each in self.changes if each.kind != "adopt"}


@dataclass(frozen=True)
class Retire:
    """Stop and disable a unit that is no longer wanted."""

    host: str
    unit: str


@dataclass(frozen=True)
class Start:
    """Start a unit that is down; `needs` are the hosts that must be ready for it too."""

    host: str
    unit: str
    stamp: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restart:
    """Restart a unit that runs with something older than its files."""

    host: str
    unit: str
    stamp: str


@dataclass(frozen=True)
class Enable:
    """Have a unit start with its host."""

    host: str
    unit: str


@dataclass(frozen=True)
class Probe:
    """Ask whether a unit of a host is healthy, and wait until it is; `reason` says what for."""

    host: str
    unit: str
    reason: str


Step: TypeAlias = Put | Retire | Start | Restart | Enable | Probe | Certify | Leave | Forget
Phase: TypeAlias = tuple[Step, ...]
"""Steps of different hosts that are done side by side."""


def text_of(step: Step) -> str:
    """Return what a step does, for people."""
    match step:
        case Certify() | Leave() | Forget():
            return node_text(step)
        case Put():
            return f"{step.host}: {_put_text(step)}"
        case _:
            return _unit_text(step)


def _unit_text(step: Retire | Start | Restart | Enable | Probe) -> str:
    match step:
        case Retire(host, unit):
            return f"{host}: stop and disable {unit}"
        case Start(host, unit):
            return f"{host}: start {unit}"
        case Restart(host, unit):
            return f"{host}: restart {unit}"
        case Enable(host, unit):
            return f"{host}: enable {unit}"
        case Probe(host, unit, reason):
            return f"{host}: {unit} must be healthy {reason}"
        case _:
            assert_never(step)


def _put_text(put: Put) -> str:
    names = {"add": "new", "change": "changed", "restore": "put back", "dress": "given owner and mode", "adopt": "adopted"}  # fmt: skip  # noqa: E501  # one table
    counts = [(text, sum(each.kind == kind for each in put.changes)) for kind, text in names.items()]
    parts = [f"{count} {text}" for text, count in (*counts, ("removed", len(put.removed))) if count]
    return f"files: {', '.join(parts) or 'clear what a cut run left'}"


def changes_something(step: Step) -> bool:
    """Return whether a host differs after this step."""
    return not isinstance(step, Probe)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The phases in order, and for each host that must not be touched a line that says why.

    `stop` says why nothing at all may be done, `waiting` what is left out because hosts are missing; both are empty
    when all is well.
    """

    phases: tuple[Phase, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    stop: str = ""
    waiting: str = ""

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return all steps, in order."""
        return tuple(step for phase in self.phases for step in phase)

    @property
    def changes(self) -> int:
        """Return how many steps change something."""
        return sum(map(changes_something, self.steps))


def plan(
    cluster: str,
    trees: Sequence[HostTree],
    facts: Mapping[str, Facts],
    *,
    etcd: etcd_data.Etcd | None = None,
    record: etcd_data.Etcd | None = None,
    problems: Mapping[str, str] | None = None,
) -> Plan:
    """Return what is to be done on the hosts that `facts` tells of; `trees` are those of all hosts.

    `problems` are hosts that others found unfit already, by a line; those that are found here join them.
    """
    found = dict(problems or {})
    stops = _stops(etcd, record, facts)
    if stops:
        return Plan(problems=found, stop=stops)
    for tree in trees:
        if tree.host in facts and tree.host not in found and (text := foreign(tree, facts[tree.host])):
            found[tree.host] = text
    fit = {name: facts[name] for name in facts if name not in found}
    puts = {tree.host: _put(cluster, tree, fit[tree.host]) for tree in trees if tree.host in fit}
    waiting, needs = _first_start(etcd, record, facts, fit)
    certify = {step.host: step for step in uncertified(trees, fit)}
    work = _Work(trees, fit, {name: put for name, put in puts.items() if put is not None}, needs, certify)
    phases = (*_files(work), *(() if waiting else _units(work)))
    return Plan(phases=tuple(filter(None, phases)), problems=found, waiting=waiting)


def _stops(etcd: etcd_data.Etcd | None, record: etcd_data.Etcd | None, facts: Mapping[str, Facts]) -> str:
    """Return why etcd must not be touched, or nothing."""
    if etcd is None:
        return ""
    changed = etcd_data.membership_problem(etcd, record)
    return changed or "\n".join(etcd_data.problems(etcd, record, facts).values())


@dataclass(frozen=True)
class _Work:
    trees: Sequence[HostTree]
    facts: Mapping[str, Facts]
    puts: Mapping[str, Put]
    needs: tuple[str, ...]
    certify: Mapping[str, Certify]


def foreign(tree: HostTree, facts: Facts) -> str:
    """Return a line about a file in our place that is not ours and differs, or nothing."""
    for path, file in tree.files.items():
        found = facts.files.get(path, Found())
        ours = path in facts.ours and found.kind != "folder"
        same = found.kind == "file" and found.sha256 == sha256_of(file)
        if found.kind != "absent" and not ours and not same:
            return (
                f"host {tree.host}: {path} is there already and not ours ({found.kind}); nothing of it was touched. "
                f"If nobody needs it, move it away (`mv {path} {path}.old`), then run this again"
            )
    return ""


def _first_start(
    etcd: etcd_data.Etcd | None,
    record: etcd_data.Etcd | None,
    facts: Mapping[str, Facts],
    fit: Collection[str],
) -> tuple[str, tuple[str, ...]]:
    """Return what keeps etcd from its first start, and the hosts that it needs for that: all of its members."""
    if (
        etcd is None
        or (record and record.seen)
        or any(facts[name].etcd_wal for name in etcd.members if name in facts)
    ):
        return "", ()
    missing = sorted(set(etcd.members) - set(fit))
    if not missing:
        return "", tuple(sorted(etcd.members))
    return f"etcd starts for the first time with all its members: {', '.join(missing)} missing", ()


def _files(work: _Work) -> Iterator[Phase]:
    left = leaving(work.trees, work.facts)
    yield tuple(map(Leave, left))
    # A host does one thing at a time.
    for put in work.puts.values():
        yield from ((Retire(put.host, unit),) for unit in _retired(put))
    yield tuple(map(Forget, left))
    yield tuple(work.puts.values())


def _retired(put: Put) -> Iterator[str]:
    for path in put.removed:
        name = path.removeprefix(UNITS)
        if name != path and "/" not in name and "." in name:
            yield name


def _put(cluster: str, tree: HostTree, facts: Facts) -> Put | None:
    """Return what brings the files of a host to its tree; None if they are that."""
    changes = tuple(filter(None, (_change(path, file, facts) for path, file in tree.files.items())))
    removed = tuple(sorted(facts.ours - set(tree.files)))
    listed = manifest(cluster, tree)
    if not (changes or removed or facts.is_cut) and listed == facts.manifest:
        return None
    touched = {
        unit.name for each in changes if each.kind != "adopt" for unit in tree.units_touched_by(each.path)
    }
    gone = {unit.name for path in removed for unit in tree.units_touched_by(path)}
    return Put(
        host=tree.host,
        tree=tree,
        changes=changes,
        removed=removed,
        unstamp=tuple(sorted(touched | gone)),
        manifest=listed,
        journal=journal(cluster, tree, removed),
    )  # fmt: skip


def _change(path: str, file: HostFile, facts: Facts) -> Change | None:
    found = facts.files.get(path, Found())
    if found.kind == "absent":
        return Change(path, "add", diff(path, None, file))
    if found.kind != "file" or found.sha256 != sha256_of(file):
        return Change(
            path, "change" if facts.is_as_left(path) else "restore", diff(path, found.content, file)
        )
    if (found.mode, found.owner, found.group) != (file.mode, file.owner, file.group):
        return Change(path, "dress")
    return None if path in facts.ours else Change(path, "adopt")


def _units(work: _Work) -> Iterator[Phase]:
    names = dict.fromkeys(unit.name for tree in work.trees for unit in tree.units)
    for name in names:
        if name == FIRST:
            yield tuple(work.certify.values())
        yield from _unit(work, name)


def _unit(work: _Work, name: str) -> Iterator[Phase]:
    """Yield the phases that bring one unit to its files on all hosts."""
    wanted = {tree.host: (tree, unit) for tree in work.trees for unit in tree.units if unit.name == name}
    mine = {host: wanted[host] for host in wanted if host in work.facts}
    down = [host for host in mine if not _unit_facts(work, host, name).is_up]
    stale = [host for host in mine if host not in down and _is_stale(work, *mine[host])]
    ended = [host for host in stale if has_ended(*mine[host], work.facts[host])]
    stamps = {host: stamp_of(unit, tree) for host, (tree, unit) in mine.items()}
    if ended:
        yield _before_all(name, list(wanted), [*down, *ended])
    needs = work.needs if name == etcd_data.UNIT else ()
    starts = [Start(host, name, stamps[host], needs) for host in down]
    yield (*starts, *(Restart(host, name, stamps[host]) for host in ended))
    yield (
        *(Probe(host, name, "after its start") for host in down),
        *(Probe(host, name, "after its restart") for host in ended),
    )
    yield from _one_by_one(name, list(wanted), {host: stamps[host] for host in stale if host not in ended})
    yield tuple(
        Enable(host, name)
        for host in mine
        if host not in down and _unit_facts(work, host, name).enabled not in ENABLED
    )


def _one_by_one(name: str, hosts: Sequence[str], stamps: Mapping[str, str]) -> Iterator[Phase]:
    for host in stamps:
        yield tuple(Probe(other, name, f"before {host} restarts") for other in hosts if other != host)
        yield (Restart(host, name, stamps[host]),)
        yield (Probe(host, name, "after its restart"),)


def _before_all(name: str, hosts: Sequence[str], ill: Collection[str]) -> Phase:
    """Return the probes before all that are `ill` restart: only a majority of others can be well without them."""
    well = [host for host in hosts if host not in ill]
    if 2 * len(well) <= len(hosts):
        return ()
    return tuple(Probe(host, name, f"before {', '.join(ill)} restarts") for host in well)


def _unit_facts(work: _Work, host: str, name: str) -> UnitFacts:
    return work.facts[host].units.get(name, UnitFacts())


def _is_stale(work: _Work, tree: HostTree, unit: Unit) -> bool:
    """Return whether a unit that is up runs with something else than its files."""
    put = work.puts.get(tree.host)
    changes_now = put is not None and unit.name in put.unstamp
    certified_now = restarts_for_certificate(unit.name, tree.host, work.certify)
    return (
        changes_now or certified_now or _unit_facts(work, tree.host, unit.name).stamp != stamp_of(unit, tree)
    )
