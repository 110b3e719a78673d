"""Everything a handler needs, as one value: the configuration as loaded, the records, the doors outside."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from werkzeug.exceptions import NotFound

from bootstrap.kubernetes.seen import NodeView
from bootstrap.model import Cluster, Machine
from bootstrap.records.documents import NODE, Documents
from bootstrap.records.enrolment import enrol
from bootstrap.records.ledger import Ledger
from bootstrap.records.strangers import Strangers
from bootstrap.render.node import revision_of
from bootstrap.state import Store
from web.answers import Refusal
from web.credentials import Connect, nowhere
from web.images import Images
from web.limits import MACHINE_BURST, MACHINE_RATE, UNKNOWN_BURST, UNKNOWN_RATE, Buckets

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Rendered:
    """What deploy.py rendered: the cluster, the documents by MAC and kind, and the one that all nodes have alike."""

    cluster: Cluster
    documents: Mapping[tuple[str, str], bytes]
    shared: bytes = b""


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
    the nodes that are control-plane hosts, by name, as the cluster showed them last.
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
    ) -> None:
        self.store = store
        self.clock = clock
        self.new_id = new_id
        self.images = images
        self.connect = connect
        self.ledger = Ledger(store, clock)
        self.strangers = Strangers(self.ledger, clock)
        self.documents = Documents(store)
        self.machine_buckets = Buckets(clock, per_second=MACHINE_RATE, burst=MACHINE_BURST)
        self.unknown_buckets = Buckets(clock, per_second=UNKNOWN_RATE, burst=UNKNOWN_BURST)
        self.nodes = Nodes(b"", {})
        self.host_nodes: Mapping[str, NodeView] = {}
        self._read_rendered = read_rendered
        self._is_nginx_up = is_nginx_up
        self.cluster = self.load()

    def load(self) -> Cluster:
        """Read what is rendered, take its documents into the store, and enrol machines that are new.

        Raises:
            StateError: the store could not write; the old configuration stays in force.
        """
        rendered = self._read_rendered()
        if self.documents.replace(rendered.documents):
            log.info("loaded %d documents", len(rendered.documents))
        enrol(rendered.cluster, self.ledger, self.new_id)
        own = {mac: text for (mac, kind), text in rendered.documents.items() if kind == NODE}
        self.nodes = Nodes(
            rendered.shared, {mac: revision_of(text, rendered.shared) for mac, text in own.items()}
        )
        self.cluster = rendered.cluster
        return rendered.cluster

    def listed(self, mac: str) -> Machine:
        """Return the machine that sends a report, if it may send one now.

        Raises:
            NotFound: the configuration does not list it.
            Refusal: 429, it reports too often.
        """
        machine = self.cluster.machine_by_mac(mac)
        if machine is None:
            raise NotFound
        if not self.machine_buckets.take(mac):
            raise Refusal(429, "too many reports; wait a little")
        return machine

    def missing(self) -> list[str]:
        """Return what the appliance still lacks to serve; empty means ready. Raises StateError."""
        lacks = {
            "documents are not loaded": not self.documents.are_loaded(),
            "nginx does not answer": not self._is_nginx_up(),
        }
        return [text for text, is_lacking in lacks.items() if is_lacking]
