"""Applies the control plane: what `apply`, `plan` and `up` call."""

import getpass
import hashlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from bootstrap.apply import etcd_data
from bootstrap.apply.facts import Facts
from bootstrap.apply.fitness import no_room, unfit
from bootstrap.apply.host import Deadlines, RemoteHost
from bootstrap.apply.plan import Plan, Put, plan
from bootstrap.apply.probe import Binder, ClusterProber
from bootstrap.apply.run import Outcome, Runner, side_by_side
from bootstrap.apply.tar import size_of
from bootstrap.disk import write_file
from bootstrap.errors import ApplyError, FirstlightError, HostError, UsageError
from bootstrap.etcd import Credentials
from bootstrap.host_errors import KeyChanged, Locked, UnknownKey
from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.marks import marks_of
from bootstrap.kubernetes.tree import HostTree
from bootstrap.model import Cluster
from bootstrap.model.kubernetes import Host
from bootstrap.progress import Progress, Reporter
from bootstrap.ssh import Connections, Way

MACHINE_ID = Path("/etc/machine-id")
STOPPING = (KeyChanged, Locked, UnknownKey)
"""What stops the whole run before anything is changed, on whichever host."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything that applying knows.

    `trees` are those of all control-plane hosts of `cluster`; `work` is deploy/<cluster>, which the caller has locked
    for a run that changes something. `etcd_client` and `access` are how etcd and the API servers are asked; without
    them there are none yet. `objects` are brought to the cluster at the end, in a new cluster with what `binder` makes.
    `certify` makes certificates of nodes (`Runner`). `ask` puts a question to a person.
    """

    cluster: Cluster
    work: Path
    trees: tuple[HostTree, ...]
    way: Way
    etcd_client: Credentials | None = None
    access: Access | None = None
    objects: Sequence[Mapping[str, Any]] = ()
    binder: Binder | None = None
    certify: Callable[[str, bytes], bytes] | None = None
    ask: Callable[[str], bool] | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    probe_seconds: float = 120.0

    @property
    def hosts(self) -> dict[str, Host]:
        """Return the hosts that have a tree, by name."""
        named = {tree.host for tree in self.trees}
        return {host.name: host for host in self.cluster.control_plane.hosts if host.name in named}

    @property
    def etcd_record(self) -> Path:
        """Return the file that says which etcd cluster this is and whose data has been seen."""
        return self.work / "etcd.json"


@dataclass(frozen=True)
class Looked:
    """What all hosts said, and what follows from it; `failed` are those that said nothing, with the reason."""

    plan: Plan
    failed: Mapping[str, str]


def plan_cluster(site: Site, now: datetime, progress: Progress, *, limit: Collection[str] = ()) -> Looked:
    """Return what applying would do on the hosts called `limit` (none: on all); changes nothing anywhere.

    Raises:
        UsageError: `limit` names no host of the cluster.
        HostError: a host's key changed.
    """
    names = _limited(site, limit)
    with Connections(site.way) as connections:
        failed = _known(site, connections, names, stopping=())
        remotes = _remotes(site, connections, [name for name in names if name not in failed], "")
        progress(f"apply: looking at {', '.join(names)}")
        return _look(site, remotes, failed, now)


def apply_cluster(site: Site, reporter: Reporter, now: datetime, *, limit: Collection[str] = ()) -> Outcome:
    """Bring the hosts called `limit` (none: all) to their trees, and prove that the control plane works.

    The caller holds the lock of the work folder. Whatever cuts this off, the next call goes on from there.

    Raises:
        UsageError: `limit` names no host of the cluster.
        HostError: a host's key changed or is not known, or somebody else works on a host; nothing was changed.
        ApplyError: etcd's data forbids it and nothing was changed; or all was done and the control plane does not
            work.
    """
    names = _limited(site, limit)
    outcome = Outcome(hosts=names)
    with reporter.step("apply") as progress, Connections(site.way) as connections, ExitStack() as held:
        outcome.failed.update(_known(site, connections, names))
        reached = [name for name in names if name not in outcome.failed]
        remotes = _remotes(site, connections, reached, _identity(site.work))
        outcome.failed.update(_hold(remotes, held, _who(site, now)))
        remotes = {name: remote for name, remote in remotes.items() if name not in outcome.failed}
        progress(f"apply: looking at {', '.join(remotes) or 'no host'}")
        looked = _look(site, remotes, outcome.failed, now)
        outcome.failed.update(looked.failed)
        for line in outcome.failed.values():
            reporter.say(line)
        if looked.plan.stop:
            raise ApplyError(looked.plan.stop)
        outcome.waiting = looked.plan.waiting
        prober = _prober(site, connections)
        _runner(site, remotes, prober, reporter, progress).run(looked.plan, outcome)
        if outcome.is_whole:
            progress("apply: proving that the control plane works")
            _prove(site, prober, outcome)
    _conclude(outcome, reporter)
    return outcome


def _limited(site: Site, limit: Collection[str]) -> tuple[str, ...]:
    unknown = sorted(set(limit) - set(site.hosts))
    if unknown:
        raise UsageError(f"no control-plane host is called {unknown[0]}; there are: {', '.join(site.hosts)}")
    return tuple(name for name in site.hosts if not limit or name in limit)


def _known(
    site: Site,
    connections: Connections,
    names: Sequence[str],
    stopping: tuple[type[HostError], ...] = STOPPING,
) -> dict[str, str]:
    """Have every host's key known, one after the other: a person may be asked. Return the hosts without an answer."""
    failed = {}
    for name in names:
        try:
            connections.first_use(site.hosts[name], site.ask)
        except HostError as error:
            if isinstance(error, stopping):
                raise
            failed[name] = str(error)
    return failed


def _remotes(
    site: Site, connections: Connections, names: Sequence[str], identity: str
) -> dict[str, RemoteHost]:
    return {name: RemoteHost(connections, site.hosts[name], identity, site.deadlines) for name in names}


def _hold(remotes: Mapping[str, RemoteHost], held: ExitStack, who: str) -> dict[str, str]:
    """Hold all hosts, side by side; they are free again when `held` ends. Return those that cannot be reached."""

    def take(remote: RemoteHost) -> object:
        context = remote.held(who)
        context.__enter__()
        return context

    results = _tried(take, remotes)
    for result in results.values():
        if not isinstance(result, FirstlightError):
            held.push(result.__exit__)  # type: ignore[attr-defined]  # it is a context
    return _errors(results)


def _look(site: Site, remotes: Mapping[str, RemoteHost], failed: Mapping[str, str], now: datetime) -> Looked:
    trees = {tree.host: tree for tree in site.trees}
    results = _tried(lambda remote: remote.look(trees[remote.name]), remotes)
    unreached = {**failed, **_errors(results)}
    facts = {name: result for name, result in results.items() if isinstance(result, Facts)}
    problems = {name: str(error) for name in facts if (error := unfit(facts[name], now, trees[name]))}
    etcd, record = etcd_data.wanted(site.trees), _record(site)
    found = plan(site.cluster.metadata.name, site.trees, facts, etcd=etcd, record=record, problems=problems)
    full = {
        step.host: str(error)
        for step in found.steps
        if isinstance(step, Put) and (error := no_room(facts[step.host], _sizes(step)))
    }
    if full:
        problems |= full
        found = plan(
            site.cluster.metadata.name, site.trees, facts, etcd=etcd, record=record, problems=problems
        )
    return Looked(found, {**unreached, **found.problems})


def _sizes(step: Put) -> dict[str, int]:
    return {path: size_of(file) for path, file in step.sent.items()}


def _tried(
    act: Callable[[RemoteHost], T], remotes: Mapping[str, RemoteHost]
) -> dict[str, T | FirstlightError]:
    """Return what `act` gives for each host, or its error; raise what concerns the whole run."""

    def tried(remote: RemoteHost) -> T | FirstlightError:
        try:
            return act(remote)
        except HostError as error:
            return error

    return dict(zip(remotes, side_by_side(tried, remotes.values()), strict=True))


def _errors(results: Mapping[str, object]) -> dict[str, str]:
    for result in results.values():
        if isinstance(result, STOPPING):
            raise result
    return {name: str(result) for name, result in results.items() if isinstance(result, FirstlightError)}


def _prober(site: Site, connections: Connections) -> ClusterProber:
    return ClusterProber(
        connections=connections,
        hosts=site.hosts,
        etcd_members=tuple(site.cluster.etcd.members),
        etcd_client=site.etcd_client,
        access=site.access,
        api_port=site.cluster.kubernetes.endpoint_port,
        wrap=site.way.wrap,
        seconds=site.probe_seconds,
        # Others bring the network of pods in pods, for which a node must be there first.
        awaits_ready=site.cluster.kubernetes.cni.plugin == "bridge",
    )


def _runner(
    site: Site,
    remotes: Mapping[str, RemoteHost],
    prober: ClusterProber,
    reporter: Reporter,
    progress: Progress,
) -> Runner:
    return Runner(
        remotes=remotes,
        prober=prober,
        journal=_EtcdRecord(site),
        say=reporter.say,
        progress=progress,
        certify=site.certify or _cannot_certify,
    )


def _cannot_certify(host: str, _: bytes) -> bytes:
    raise ApplyError(f"host {host}: there is nobody to certify its node")


def _prove(site: Site, prober: ClusterProber, outcome: Outcome) -> None:
    """Prove the whole from end to end; what was proven is in `outcome`."""
    proven = []
    if site.etcd_client is not None:
        prober.etcd_writes()
        proven.append(
            f"etcd: {len(site.cluster.etcd.members)} members healthy, a key written and read through each"
        )
    trees = [tree for tree in site.trees if tree.host in outcome.hosts]
    proven += side_by_side(lambda tree: _proven_units(tree, prober), trees)
    if site.access is not None:
        nodes = [tree.host for tree in site.trees if tree.is_node and tree.host in outcome.hosts]
        outcome.objects = tuple(prober.api_writes(site.objects, marks_of(site.cluster), site.binder, nodes))
        proven += [f"{name}: node {name} is {_proven_of_nodes(site)}" for name in nodes]
        proven.append(f"API: an object written and read through {', '.join(site.access.servers)}")
    outcome.proven = tuple(proven)  # fmt: skip


def _proven_units(tree: HostTree, prober: ClusterProber) -> str:
    for unit in tree.units:
        prober.healthy(tree.host, unit.name)
    return f"{tree.host}: {', '.join(unit.name for unit in tree.units) or 'no unit'} healthy"


def _proven_of_nodes(site: Site) -> str:
    return "Ready" if site.cluster.kubernetes.cni.plugin == "bridge" else "registered"


def _conclude(outcome: Outcome, reporter: Reporter) -> None:
    for name in outcome.objects:
        reporter.say(f"applied {name}")
    for line in outcome.proven:
        reporter.say(line)
    if outcome.waiting:
        reporter.say(f"not done: {outcome.waiting}")
    if outcome.is_whole:
        said = f"{outcome.changes} changes" if outcome.changes else "0 changes: every host is as it should be"
        reporter.say(said)


class _EtcdRecord:
    """Writes down, before etcd's first start, which cluster it will be, and later whose members have been up."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()  # members are probed side by side

    def etcd_begins(self) -> None:
        """Write the cluster that the trees make; one that is written stays."""
        wanted = etcd_data.wanted(self._site.trees)
        record = _record(self._site)
        if wanted is not None and (record is None or not record.seen):
            write_file(self._site.etcd_record, wanted.to_json(), 0o600)

    def etcd_seen(self, host: str) -> None:
        """Add `host` to those whose member has been healthy."""
        with self._lock:
            record = _record(self._site) or etcd_data.wanted(self._site.trees)
            if record is not None and host not in record.seen:
                now = etcd_data.Etcd(record.cluster, record.members, record.seen | {host})
                write_file(self._site.etcd_record, now.to_json(), 0o600)


def _record(site: Site) -> etcd_data.Etcd | None:
    try:
        return etcd_data.from_json(site.etcd_record.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ApplyError(
            f"{site.etcd_record} is damaged ({error}); bring it back from a backup: it says which etcd data is ours"
        ) from error


def _identity(work: Path) -> str:
    """Return what only runs of this work folder on this computer have in common; it is made at the first call."""
    file = work / "run" / "operator"
    if not file.is_file():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(file, secrets.token_hex(16).encode(), 0o600)
    machine = MACHINE_ID.read_bytes() if MACHINE_ID.is_file() else b""
    return hashlib.sha256(file.read_bytes() + machine + socket.gethostname().encode()).hexdigest()[:16]


def _who(site: Site, now: datetime) -> str:
    """Return what another operator is told: who, where, since."""
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    return f"{me} (deploy.py pid {os.getpid()}, {site.work}, since {now:%Y-%m-%d %H:%M:%S} UTC)"
