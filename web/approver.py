"""Decides what kubelets ask of the cluster's signers, and follows whether their nodes are Ready.

A kubelet that runs asks by itself: for a new client certificate (always with a new key) before the old one ends, and
for the certificate that it serves with. It gets them while its machine is in good standing, for its own name and
addresses only; a quarantined or retired machine gets nothing, so its access ends by itself. A control-plane host with
`node: true` is in good standing, for its own name and address; the same holds when that is taken away.
"""

import logging
import random
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address

from bootstrap.errors import ApiError, StateError
from bootstrap.kubernetes.access import Signer
from bootstrap.kubernetes.seen import NodeView, SigningRequest
from bootstrap.model import Cluster, Host
from bootstrap.records import claims
from bootstrap.records.ledger import Change, Note
from bootstrap.records.model import MachineRecord
from bootstrap.records.said import clean
from bootstrap.records.transitions import APPLIANCE, Refused
from bootstrap.states import ON_DISK
from certs.errors import RefusedRequest
from certs.requests import USER_PREFIX, certificate_facts, client_request, serving_request
from web.credentials import USER, ClusterApi, Connection
from web.site import Site

log = logging.getLogger(__name__)

ROUND_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
MOST_DENIALS = 50  # told of in one round: a flood of requests must not fill the log
SIGNATURE, ENCIPHERMENT = "digital signature", "key encipherment"
# Before v1.27 a kubelet asks for "key encipherment" whatever its key is.
USAGES: Mapping[str, tuple[frozenset[str], ...]] = {
    Signer.CLIENT: (
        frozenset({SIGNATURE, "client auth"}),
        frozenset({SIGNATURE, ENCIPHERMENT, "client auth"}),
    ),
    Signer.SERVING: (
        frozenset({SIGNATURE, "server auth"}),
        frozenset({SIGNATURE, ENCIPHERMENT, "server auth"}),
    ),
}
REMEMBERED = 4096  # requests whose certificate was looked at


class Denied(Exception):  # noqa: N818  # reads as a sentence where it is raised
    """The request is not approved; the text says why."""


class NotYet(Exception):  # noqa: N818  # as above
    """What the decision needs is not known yet: the request stays pending."""


class Approver:
    """Goes round the requests and nodes in a thread of its own, until stopped."""

    def __init__(self, site: Site, *, chance: Callable[[float, float], float] = random.uniform) -> None:
        self._site = site
        self._chance = chance
        self._known: dict[str, MachineRecord] = {}
        self._revision = 0
        self._looked_at: dict[str, None] = {}
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="approver", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the round that it is in."""
        self._stop.set()
        self._thread.join(LONGEST_PAUSE_SECONDS)

    def look(self) -> bool:
        """Go round once; return whether there is a cluster to look at.

        Raises:
            ApiError: the cluster did not answer, or refuses us.
            StateError: the store could not read or write.
        """
        connection = self._site.connect(self._site.cluster)
        if connection is None:
            return False
        by_node = self._by_node()
        self._decide_all(connection, by_node)
        nodes = connection.watching.nodes()
        self._follow(nodes, by_node)
        hosts = {host.name for host in self._site.cluster.control_plane.hosts}
        self._site.host_nodes = {node.name: node for node in nodes if node.name in hosts}
        return True

    def _run(self) -> None:
        pause = ROUND_SECONDS
        while not self._stop.wait(self._chance(0.8, 1.2) * pause):
            try:
                has_cluster = self.look()
                pause = ROUND_SECONDS if has_cluster else LONGEST_PAUSE_SECONDS / 3
                self._say("")
            except (ApiError, StateError) as error:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                self._say(str(error))
            except Exception:
                # The thread is the only one of its kind: whatever went wrong, the next round is to happen.
                log.exception("could not look after the nodes")
                pause = LONGEST_PAUSE_SECONDS

    def _say(self, trouble: str) -> None:
        """Log what changed, not what goes on."""
        if trouble and trouble != self._trouble:
            log.warning("could not look after the nodes: %s", trouble)
        elif self._trouble and not trouble:
            log.info("looking after the nodes again")
        self._trouble = trouble

    def _by_node(self) -> dict[str, MachineRecord]:
        """Return the machines that have claimed, by the name of their node."""
        changed, self._revision = self._site.ledger.changed_since(self._revision)
        self._known |= {record.mac: record for record in changed}
        claimed = [record for record in self._known.values() if record.claim]
        # Another machine may have got the name of one that went: the last in good standing is who is meant.
        claimed.sort(key=lambda record: (self._is_good(record), record.claim and record.claim.bound_at))
        return {record.claim.node: record for record in claimed if record.claim}

    def _is_good(self, record: MachineRecord) -> bool:
        return record.state in ON_DISK and self._site.cluster.machine_by_mac(record.mac) is not None

    def _decide_all(self, connection: Connection, by_node: Mapping[str, MachineRecord]) -> None:
        denials = 0
        for signer in Signer:
            for request in connection.api.signing_requests(signer):
                if request.is_pending and request.user != USER:
                    denials += not self._decide(
                        connection.api, request, by_node, is_told=denials < MOST_DENIALS
                    )
                elif request.certificate and signer is Signer.CLIENT:
                    self._note_end(request, by_node)

    def _decide(
        self, api: ClusterApi, request: SigningRequest, by_node: Mapping[str, MachineRecord], *, is_told: bool
    ) -> bool:
        """Approve or deny a pending request; return whether it was not denied."""
        host = self._node_host(request.user)
        record = by_node.get(request.user.removeprefix(USER_PREFIX)) if host is None else None
        try:
            if host is None:
                self._must_be_right(request, record)
            else:
                must_be_right_for(request, host.name, {host.address})
        except NotYet:
            return True
        except (Denied, RefusedRequest, Refused) as refusal:
            reason = clean(f"{request.user} wants {request.signer}: {refusal}")
            if is_told:
                self._tell(record, reason)
            api.decide(request.name, approve=False, reason="FirstlightDenied", message=reason)
            return False
        message = "this machine's own kubelet asked, and it is in good standing"
        if host is not None:
            log.info("%s: approved for %s", host.name, request.signer)
        api.decide(request.name, approve=True, reason="FirstlightRenewal", message=message)
        return True

    def _must_be_right(self, request: SigningRequest, record: MachineRecord | None) -> None:
        """Return if the request may be approved; a new client key is written down before.

        Raises:
            NotYet: the machine has not told its address, or somebody else may still hold a certificate of its name.
            Denied: who asks is no node of ours in good standing, or wants other usages.
            RefusedRequest: the request itself is not exactly right.
            Refused: the machine's state forbids it.
        """
        if record is None or record.claim is None or not request.user.startswith(USER_PREFIX):
            raise Denied("no machine of ours has claimed this name")
        if not self._is_good(record):
            raise Denied(f"{record.name} is {record.state}, or not in the configuration any more")
        addresses: Collection[IPv4Address] = ()
        if request.signer == Signer.SERVING:
            addresses = own_addresses(self._site.cluster, record, self._known.values())
            if not addresses and record.address is None:
                raise NotYet
        key = must_be_right_for(request, record.claim.node, addresses)
        if request.signer == Signer.SERVING:
            return
        former = former_until(record, self._known.values())
        if former is not None and self._site.clock() < former:
            raise NotYet
        self._change(record, lambda found, _: claims.renewed(found, key=key))

    def _node_host(self, user: str) -> Host | None:
        """Return the control-plane host whose kubelet `user` is, if it is to have one."""
        hosts = self._site.cluster.control_plane.hosts
        return next((host for host in hosts if host.node and user == f"{USER_PREFIX}{host.name}"), None)

    def _note_end(self, request: SigningRequest, by_node: Mapping[str, MachineRecord]) -> None:
        """Note when the newest certificate of a node ends: then at the latest a retired machine is out."""
        if request.name in self._looked_at:
            return
        while len(self._looked_at) >= REMEMBERED:
            self._looked_at.pop(next(iter(self._looked_at)))
        self._looked_at[request.name] = None
        record = by_node.get(request.user.removeprefix(USER_PREFIX))
        if record is None:
            return
        try:
            found = certificate_facts(request.certificate)
        except RefusedRequest as error:
            log.warning("%s holds no readable certificate: %s", request.name, error)
            return
        change = partial(claims.expires, key=found.fingerprint, expires_at=found.not_after)
        self._change(record, lambda latest, _: change(latest))

    def _follow(self, nodes: Iterable[NodeView], by_node: Mapping[str, MachineRecord]) -> None:
        """Bring joined and ready in line with what the cluster says of each node."""
        seen = {node.name: node for node in nodes}
        for name, record in by_node.items():
            if record.state not in claims.IN_CLUSTER:
                continue
            node = seen.get(name)
            message = message_of(node)
            change = partial(claims.node_seen, is_ready=node is not None and node.is_ready, message=message)
            if change(record, self._site.clock()) != Change():
                self._change(record, change)

    def _tell(self, record: MachineRecord | None, reason: str) -> None:
        log.warning("denied: %s", reason)
        if record is not None:
            self._change(record, lambda found, _: claims.denied(found, reason=reason))
            return
        note = Note(who=APPLIANCE, what="request-denied", log=APPLIANCE, machine="", reason=reason)
        self._site.ledger.note(note)

    def _change(self, record: MachineRecord, decide: Callable[[MachineRecord, datetime], Change]) -> None:
        self._site.ledger.change(record.mac, lambda found, now: decide(found, now) if found else Change())


def must_be_right_for(request: SigningRequest, name: str, addresses: Collection[IPv4Address]) -> str:
    """Return the fingerprint of the key in a request of the node called `name`, which may serve on `addresses`.

    Raises:
        Denied: it wants other usages than the signer gives.
        RefusedRequest: the request itself is not exactly right.
    """
    if frozenset(request.usages) not in USAGES.get(request.signer, ()):
        raise Denied(f"it wants usages {', '.join(sorted(request.usages))}")
    if request.signer == Signer.SERVING:
        return serving_request(request.request, name, addresses).fingerprint
    return client_request(request.request, name).fingerprint


def message_of(node: NodeView | None) -> str:
    """Return in a few words what the cluster says of a node; its kubelet says part of it, so it is cleaned."""
    if node is None:
        return "joined; its node is not registered yet"
    if node.is_ready:
        return clean(f"Ready, kubelet {node.version}" + (", cordoned" if node.is_cordoned else ""), 200)
    return clean(f"joined; not Ready: {node.message}", 200)


def former_until(record: MachineRecord, others: Iterable[MachineRecord]) -> datetime | None:
    """Return when the last certificate ends that has the name of this machine's node and may be another's.

    A renewal does not tell which certificate it was asked for with. Whoever holds one of an earlier arm, or of an
    earlier machine of that name, must not get another one: until those have ended, renewals wait.
    """
    node = record.claim.node if record.claim else record.name
    namesakes = (one for one in others if one.mac != record.mac and node in (one.name, _node_of(one)))
    ends = (record.former_until, *(one.access_until for one in namesakes))
    return max((end for end in ends if end is not None), default=None)


def _node_of(record: MachineRecord) -> str | None:
    return record.claim.node if record.claim else None


def own_addresses(
    cluster: Cluster, record: MachineRecord, others: Iterable[MachineRecord]
) -> frozenset[IPv4Address]:
    """Return the addresses that a machine may serve on: its reserved one, else the one that it has told us.

    What a machine tells counts only if it is of the machines' networks and nobody else's.
    """
    machine = cluster.machine_by_mac(record.mac)
    if machine is not None and machine.address is not None:
        return frozenset({machine.address})
    if record.address is None:
        return frozenset()
    told = IPv4Address(record.address)
    taken = {cluster.appliance.address.ip, *(host.address for host in cluster.control_plane.hosts)}
    taken |= {one.address for one in cluster.machines if one.address is not None}
    taken |= {IPv4Address(one.address) for one in others if one.address and one.mac != record.mac}
    if str(told) == cluster.kubernetes.endpoint_host or not cluster.is_local(told):
        return frozenset()
    return frozenset() if told in taken else frozenset({told})
