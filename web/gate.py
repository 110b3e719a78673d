"""Holds nodes whose GPUs nobody has verified, and lets through those that are what their pool promises.

A node registers with the taint itself, and may not take it away (NodeRestriction). It is taken away here, once the gate
has passed; it is put there again on a node that fails later, or that came without it.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from bootstrap.errors import ApiDown, ApiError, ApiRefused, StateError
from bootstrap.gpu.gate import Part, Verdict, verdict
from bootstrap.gpu.mig import strategy
from bootstrap.gpu.reported import Report, kept_report
from bootstrap.gpu.taint import is_ours, patch_of
from bootstrap.kubernetes.runtimes import pods_per_gpu
from bootstrap.kubernetes.seen import NodeMarks
from bootstrap.model import Machine, Pool
from bootstrap.records import gpus
from bootstrap.records.claims import IN_CLUSTER
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord, SignedReport
from bootstrap.state import Put
from web.credentials import GateApi
from web.site import Site

log = logging.getLogger(__name__)

ROUND_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE = timedelta(
    seconds=60
)  # a kubelet that starts anew has no GPUs until its device plugin has come again
GONE, CONFLICT = 404, 409
USED = "meta/gpu-gate"
"""Is in the store from the day on which a pool had GPUs first."""


@dataclass(frozen=True)
class Word:
    """A node's last word: its report, as it was signed, and when it was heard."""

    signed: SignedReport
    report: Report


class Gate:
    """Goes round the nodes of pools with GPUs in a thread of its own, until stopped."""

    def __init__(self, site: Site, *, chance: Callable[[float, float], float] = random.uniform) -> None:
        self._site = site
        self._chance = chance
        self._known: dict[str, MachineRecord] = {}
        self._revision = 0
        self._words: dict[str, Word] = {}
        self._heard = 0
        self._without_plugin: dict[str, datetime] = {}
        self._is_used = False
        self._went_round = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the round that it is in."""
        self._stop.set()
        self._thread.join(LONGEST_PAUSE_SECONDS)

    def look(self) -> bool:
        """Go round once; return whether there is a cluster to look at.

        What goes wrong with one node is raised after all others were looked after.

        Raises:
            ApiError: the cluster did not answer, or refuses us.
            StateError: the store could not read or write.
        """
        self._went_round = False
        connection = self._site.connect(self._site.cluster)
        if connection is None:
            self._say_unconnected()
            return False
        self._hear()
        members = list(self._members())
        nodes = {node.name: node for node in connection.gate.node_marks()} if members else {}
        troubles = []
        for machine, record in members:
            node = nodes.get(record.claim.node) if record.claim else None
            try:
                if node is not None:
                    self._mind(connection.gate, machine, record, node)
            except ApiDown:
                raise  # nor would it answer for the others
            except Exception as error:  # noqa: BLE001  # whatever it is, it is not that of the others
                troubles.append(error)
        self._went_round = True
        if troubles:
            raise troubles[0]
        return True

    def _run(self) -> None:
        pause = ROUND_SECONDS
        while not self._stop.wait(self._chance(0.8, 1.2) * pause):
            pause = self._round(pause)

    def _round(self, pause: float) -> float:
        """Go round, and return for how long to wait then; the trouble of one node keeps no other waiting."""
        try:
            is_there = self.look()
            self._say("" if is_there else self._site.gate_trouble)
        except (ApiError, StateError) as error:
            self._say(str(error))
        except Exception as error:  # noqa: BLE001  # the thread is the only one of its kind: the next round is to be
            self._say(f"{type(error).__name__}: {error}", error)
        else:
            return ROUND_SECONDS if is_there else LONGEST_PAUSE_SECONDS / 3
        return ROUND_SECONDS if self._went_round else min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _say_unconnected(self) -> None:
        """Say why there is no cluster to look at, if there should be one."""
        is_used = self._site.cluster.control_plane.hosts and any(
            pool.gpu for pool in self._site.cluster.pools
        )
        self._say("pki/gate.crt, or a file beside it, is missing: up makes it" if is_used else "")

    def _say(self, trouble: str, ours: Exception | None = None) -> None:
        """Log what changed, not what goes on; the operator is told it too (GET /v1/gpus)."""
        if trouble and trouble != self._site.gate_trouble:
            log.warning("could not look after the GPUs of nodes: %s", trouble, exc_info=ours)
        self._site.gate_trouble = trouble

    def _members(self) -> Iterator[tuple[Machine, MachineRecord]]:
        """Yield the machines that are in the cluster, where a pool has GPUs or had.

        A Node object outlives a change of its machine's pool, and so does our taint on it.
        """
        changed, self._revision = self._site.ledger.changed_since(self._revision)
        self._known |= {record.mac: record for record in changed}
        if not self._has_been_used():
            return
        for mac, record in self._known.items():
            machine = self._site.cluster.machine_by_mac(mac)
            if machine is not None and record.claim is not None and record.state in IN_CLUSTER:
                yield machine, record

    def _has_been_used(self) -> bool:
        """Return whether a pool has GPUs or ever had: our taint may be on any node then."""
        if not self._is_used:
            is_wanted = any(pool.gpu for pool in self._site.cluster.pools)
            is_known = self._site.store.get(USED) is not None
            if is_wanted and not is_known:
                self._site.store.commit([Put(key=USED, value=b"{}")])
            is_heard = any(record.gpu for record in self._known.values())
            self._is_used = is_wanted or is_known or is_heard
        return self._is_used

    def _mind(self, api: GateApi, machine: Machine, record: MachineRecord, node: NodeMarks) -> None:
        pool, word = self._site.cluster.pool(machine.pool), self._word(record)
        has_taint = any(map(is_ours, node.taints))
        if pool.gpu is None:
            self._hold(api, node, is_held=False)
        elif word is None:
            self._hold(api, node, is_held=True)
        else:
            allocatable = node.given(pods_per_gpu(self._site.cluster))
            how = strategy(self._site.cluster)
            found = verdict(pool, word.report, allocatable, gpus.kept_by(record), how)
            if self._is_patient(record, found, has_taint=has_taint):
                return
            if found.is_passed and has_taint and self._is_stale(pool, word):
                return
            noted = self._note(record, found, word)
            is_written_down = noted.gpu is not None and noted.gpu.passed_at is not None
            if found.is_passed and not is_written_down:
                return  # its node is not Ready
            self._hold(api, node, is_held=not found.is_passed)

    def _hear(self) -> None:
        """Read what nodes have said since the last round."""
        for entry in self._site.store.scan("gpu/", newer=self._heard):
            self._heard = max(self._heard, entry.revision)
            signed, mac = SignedReport.from_bytes(entry.value), entry.key.partition("/")[2]
            self._words.pop(mac, None)
            if report := kept_report(signed.report):
                self._words[mac] = Word(signed, report)

    def _word(self, record: MachineRecord) -> Word | None:
        """Return what the node said last under its current arm."""
        known = self._words.get(record.mac)
        return known if known and known.report.arm == record.arm else None

    def _is_patient(self, record: MachineRecord, found: Verdict, *, has_taint: bool) -> bool:
        """Return whether to wait for the device plugin of a node that has passed."""
        if has_taint or found.part is not Part.PLUGIN or not (record.gpu and record.gpu.passed_at):
            self._without_plugin.pop(record.mac, None)
            return False
        now = self._site.clock()
        return now - self._without_plugin.setdefault(record.mac, now) < PATIENCE

    def _is_stale(self, pool: Pool, word: Word) -> bool:
        interval = pool.gpu.check_interval if pool.gpu else 0
        return self._site.clock() - word.signed.heard_at > gpus.STALE_INTERVALS * timedelta(seconds=interval)

    def _note(self, record: MachineRecord, found: Verdict, word: Word) -> MachineRecord:
        """Write down what the gate says, and with which report a node came through; return what is known then."""

        def decide(latest: MachineRecord | None, now: datetime) -> Change:
            if latest is None or latest.arm != record.arm:
                return Change()
            change = gpus.judged(latest, found, now)
            is_first = latest.gpu is not None and latest.gpu.passed_at is None
            if change == Change() or not (found.is_passed and is_first):
                return change
            kept = word.signed.but(verdict=str(found))
            put = Put(key=f"gpu-passed/{record.mac}", value=kept.to_bytes())
            return Change(record=change.record, note=change.note, writes=(put,))

        if gpus.judged(record, found, self._site.clock()) == Change():
            return record
        written = self._site.ledger.change(record.mac, decide)
        return written.record if written else record

    def _hold(self, api: GateApi, node: NodeMarks, *, is_held: bool) -> None:
        patch = patch_of(node.taints, node.revision, is_held=is_held)
        if not patch:
            return
        try:
            api.patch_node(node.name, patch)
        except ApiRefused as error:
            if error.status not in (
                GONE,
                CONFLICT,
            ):  # it went, or somebody changed it: the next round sees that
                raise
        else:
            log.info("%s: GPUs %s", node.name, "not verified: it gets no new pods" if is_held else "verified")
