"""Everything a handler needs, as one value: the configuration as loaded, the records, the doors outside."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from werkzeug.exceptions import NotFound

from bootstrap import accepted
from bootstrap.kubernetes.seen import NodeView
from bootstrap.model import Cluster, Machine
from bootstrap.records.alarms import Alarms
from bootstrap.records.documents import NODE, Documents
from bootstrap.records.enrolment import enrol
from bootstrap.records.identities import Identities
from bootstrap.records.ledger import Ledger
from bootstrap.records.model import Accepted
from bootstrap.records.strangers import Strangers
from bootstrap.render.machines import discovery_document
from bootstrap.render.node import Joining, revision_of
from bootstrap.state import Put, Store
from web.accesslog import AccessLog
from web.answers import Refusal
from web.composing import machine_documents, refuse_moved_subnets, shared
from web.credentials import Connect, nowhere
from web.images import Images
from web.limits import (
    MACHINE_BURST,
    MACHINE_RATE,
    REPORT_BURST,
    REPORT_KEYS,
    REPORT_RATE,
    SIGHTING_BURST,
    SIGHTING_RATE,
    UNKNOWN_BURST,
    UNKNOWN_RATE,
    Buckets,
)

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
ReadJoining = Callable[[Cluster], Joining | None]
KeepAccepted = Callable[[Sequence[Accepted]], Sequence[Accepted]]


@dataclass(frozen=True)
class Rendered:
    """What deploy.py rendered: the cluster, the documents by MAC and kind, and the one that all nodes have alike.

    `ca` is the provisioning CA's certificate in PEM; without it nothing can be rendered here.
    """

    cluster: Cluster
    documents: Mapping[tuple[str, str], bytes]
    shared: bytes = b""
    ca: bytes = b""


@dataclass(frozen=True)
class Nodes:
    """What nodes are to run: the document that all have alike, and by MAC the revision of all of a node's documents.

    Machines that do not become nodes have no revision.
    """

    shared: bytes
    planned: Mapping[str, str]


class Site:
    """The appliance as its handlers see it.

    `cluster` is replaced as a whole by `load`; a handler takes it once and keeps to it. `nodes` too. `host_nodes` are
    the nodes that are control-plane hosts, by name, as the cluster showed them last. `changing` is held by who takes
    new machines into the cluster. `gate_trouble` is why the gate could not look after nodes with GPUs in its last
    round, empty if it could. `discovery` is the document of machines that nobody listed.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        images: Images,
        read_rendered: Callable[[], Rendered],
        is_nginx_up: Callable[[], bool],
        connect: Connect = nowhere,
        read_joining: ReadJoining = lambda _: None,
        keep_accepted: KeepAccepted = lambda found: found,
    ) -> None:
        self.store = store
        self.clock = clock
        self.new_id = new_id
        self.images = images
        self.connect = connect
        self.ledger = Ledger(store, clock)
        self.identities = Identities()
        for record in self.ledger.machines():
            self.identities.put(record.mac, record.evidence, cards=record.cards, ignored=record.ignored)
        self.strangers = Strangers(self.ledger, clock, self.identities)
        self.alarms = Alarms(self.ledger, clock)
        self.documents = Documents(store)
        self.machine_buckets = Buckets(clock, per_second=MACHINE_RATE, burst=MACHINE_BURST)
        self.report_buckets = Buckets(clock, per_second=REPORT_RATE, burst=REPORT_BURST, most=REPORT_KEYS)
        self.sighting_buckets = Buckets(clock, per_second=SIGHTING_RATE, burst=SIGHTING_BURST)
        self.unknown_buckets = Buckets(clock, per_second=UNKNOWN_RATE, burst=UNKNOWN_BURST)
        self.nodes = Nodes(b"", {})
        self.host_nodes: Mapping[str, NodeView] = {}
        self.access_log = AccessLog(lambda: self.cluster)
        self._read_rendered = read_rendered
        self._is_nginx_up = is_nginx_up
        self.read_joining = read_joining
        self._keep_accepted = keep_accepted
        self.gate_trouble = ""
        self.changing = threading.RLock()
        self.discovery = b""
        self.cluster = self.load()

    def load(self) -> Cluster:
        """Read what is rendered and what was accepted, take the documents into the store, and enrol new machines.

        Raises:
            StateError: the store could not write; the old configuration stays in force.
        """
        with self.changing:
            rendered = self.with_accepted(self._read_rendered())
            if self.documents.replace(rendered.documents):
                log.info("loaded %d documents", len(rendered.documents))
            enrol(rendered.cluster, self.ledger, self.new_id)
            own = {mac: text for (mac, kind), text in rendered.documents.items() if kind == NODE}
            self.nodes = Nodes(
                rendered.shared, {mac: revision_of(text, rendered.shared) for mac, text in own.items()}
            )
            self.discovery = discovery_document(rendered.cluster, rendered.ca) if rendered.ca else b""
            self.cluster = rendered.cluster
            return rendered.cluster

    def accepted(self) -> list[Accepted]:
        """Return the machines that were accepted, in MAC order."""
        return [Accepted.from_bytes(entry.value) for entry in self.store.scan("accepted/")]

    def with_accepted(self, rendered: Rendered) -> Rendered:
        """Return `rendered` with the machines that were accepted since, and their documents.

        Raises:
            StateError: what they need could not be read or written, or contradicts what was rendered.
        """
        stored = self.accepted()
        found = self._keep_accepted(stored)
        lost = [one for one in found if one not in stored]
        if lost:
            self.store.commit([Put(key=f"accepted/{one.mac}", value=one.to_bytes()) for one in lost])
        cluster = accepted.composed(rendered.cluster, found)
        more = cluster.machines[len(rendered.cluster.machines) :]
        if not more or not rendered.ca:
            return Rendered(cluster, rendered.documents, rendered.shared, rendered.ca)
        joining = self.read_joining(cluster)
        refuse_moved_subnets(rendered.shared, joining)
        documents = machine_documents(cluster, more, rendered.ca, joining)
        return Rendered(
            cluster, {**rendered.documents, **documents}, shared(joining) or rendered.shared, rendered.ca
        )

    def listed(self, mac: str) -> Machine:
        """Return the machine that sends a report, if it may send one now.

        Raises:
            NotFound: the configuration does not list it.
            Refusal: 429, it reports too often.
        """
        return self._listed(mac, self.machine_buckets, mac)

    def signing(self, mac: str, address: str) -> Machine:
        """Return the machine in whose name `address` sends what it has signed, if it may send one now.

        Before the signature is looked at nobody knows who it is: junk in a machine's name is counted for its sender.

        Raises:
            NotFound: the configuration does not list it.
            Refusal: 429, it reports too often.
        """
        return self._listed(mac, self.report_buckets, f"{mac} {address}")

    def _listed(self, mac: str, buckets: Buckets, key: str) -> Machine:
        machine = self.cluster.machine_by_mac(mac)
        if machine is None:
            raise NotFound
        if not buckets.take(key):
            raise Refusal(429, "too many reports; wait a little")
        return machine

    def missing(self) -> list[str]:
        """Return what the appliance still lacks to serve; empty means ready. Raises StateError."""
        lacks = {
            "documents are not loaded": not self.documents.are_loaded(),
            "nginx does not answer": not self._is_nginx_up(),
        }
        return [text for text, is_lacking in lacks.items() if is_lacking]
