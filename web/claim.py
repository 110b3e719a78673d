"""POST /v1/claim: a machine's own key becomes its node's, once; the cluster signs, and we never see a private key.

What it takes: the machine is installed under the current arm, and its request is exactly the right one for its name.
The key is bound in one conditional write before the cluster hears of it. Until the cluster has signed, the machine is
told to ask again: it waits, and `status` says for what.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NoReturn

from flask import Response
from pydantic import Field
from werkzeug.exceptions import NotFound

from bootstrap import failpoints
from bootstrap.errors import ApiDown, ApiError
from bootstrap.kubernetes.access import Signer
from bootstrap.kubernetes.releases import release_of
from bootstrap.kubernetes.seen import SigningRequest
from bootstrap.model import Machine
from bootstrap.records import claims
from bootstrap.records.ledger import Change
from bootstrap.records.model import Claim, MachineRecord
from bootstrap.records.said import Said
from bootstrap.state import Put
from bootstrap.states import ON_DISK, State
from certs.errors import RefusedRequest
from certs.requests import LONGEST_PEM, Issued, Request, client_request, issued
from web.answers import Answer, Refusal, json_answer, response_of
from web.bodies import ARM, MacAddress, said
from web.credentials import USER, Connection
from web.listeners import Access, Routes
from web.machine import current, with_writes
from web.site import Site

log = logging.getLogger(__name__)

CLAIM_BODY = 8 * 1024
MOST_AT_ONCE = 8  # threads that may wait for the cluster; the other two dozen answer machines that boot
POLL_SECONDS, POLL_EVERY = 5.0, 0.2
DOWN_SECONDS = 2.0  # for so long nobody else tries after an API server did not answer
SOON, LATER = (1.0, 3.0), (4.0, 10.0)  # between these many seconds a machine comes back
LEAST_LIFE = 0.1  # a certificate with less of its life left than this is not handed out again
LOST = "the certificate request was lost or refused; filing another one"


class Claiming(Said):
    """A machine's request for its node's certificate: `csr` is PKCS#10 in PEM."""

    mac: MacAddress
    arm: Annotated[str, Field(pattern=ARM)]
    csr: Annotated[str, Field(max_length=LONGEST_PEM)]


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who claims: the machine, its request, and how it is bound."""

    machine: Machine
    request: Request
    claim: Claim

    @property
    def file_name(self) -> str:
        """Return what the request is called in the cluster: the same for the same key and number."""
        return f"firstlight-{self.request.fingerprint[:32]}-{self.claim.issue}"


class Waits(Exception):  # noqa: N818  # reads as a sentence where it is raised
    """There is no certificate yet; the machine asks again after a time between `span` seconds."""

    def __init__(self, reason: str, span: tuple[float, float] = SOON) -> None:
        super().__init__(reason)
        self.reason = reason
        self.span = span


def add(routes: Routes, site: Site) -> None:
    """Add the route."""
    desk = Desk(site)

    @routes.post("/v1/claim", Access.MACHINE)
    def claim() -> Response:
        asked, _ = said(Claiming, limit=CLAIM_BODY)
        return response_of(desk.answer(asked))


class Desk:
    """Takes claims, a few at a time as far as the cluster is concerned."""

    def __init__(
        self,
        site: Site,
        *,
        chance: Callable[[float, float], float] = random.uniform,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._site = site
        self._chance = chance
        self._sleep = sleep
        self._seats = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._down_until = 0.0

    def answer(self, asked: Claiming) -> Answer:
        """Return the certificate, or when to ask again.

        Raises:
            NotFound: nobody who may claim has this address; no answer tells which of the reasons it is.
            Refusal: 400 for a wrong request, 409 for a machine that may not have what it asks for.
            Refused: 409, as above.
        """
        # Looked at before the tokens are: who is never told 429 must not be told apart by that.
        _must_be_known(self._site, asked.mac)
        machine = self._site.listed(asked.mac)
        try:
            return self._granted(self._bound(machine, asked))
        except claims.TooEarly as error:
            return self._later(Waits(str(error)))
        except Waits as wait:
            return self._later(wait)

    def _bound(self, machine: Machine, asked: Claiming) -> Asker:
        """Bind the key to the machine, unless it is bound already."""
        request = _checked(self._site.ledger.machine(machine.mac), machine, asked)

        def decide(found: MachineRecord | None, now: datetime) -> Change:
            return claims.bind(_armed(found, asked.arm), now, node=machine.name, key=request.fingerprint)

        failpoints.reached("claim.bind.before")
        written = self._site.ledger.change(machine.mac, decide)
        failpoints.reached("claim.bind.after")
        if written is None or written.record.claim is None:
            raise NotFound
        if written.record.state is State.QUARANTINED:
            log.critical("%s", written.record.reason)
            raise Refusal(409, f"{machine.name} is quarantined: {written.record.reason}")
        return Asker(machine=machine, request=request, claim=written.record.claim)

    def _granted(self, asker: Asker) -> Answer:
        """Return the certificate that is kept, or have the cluster make one."""
        kept = self._kept(asker)
        try:
            connection = self._site.connect(self._site.cluster)
            if connection is None:
                raise Waits("the appliance has no credentials for the cluster yet", LATER)
            if kept is None:
                kept = self._with_a_seat(connection, asker)
        except ApiError as error:
            self._down_until = time.monotonic() + DOWN_SECONDS if isinstance(error, ApiDown) else 0.0
            log.warning("%s cannot join yet: %s", asker.machine.name, error)
            self._tell(asker, _why(error))
            raise Waits(_why(error), LATER) from error
        return json_answer(
            {
                "certificate": kept,
                "ca": connection.authority.decode(),
                "endpoint": f"https://{self._site.cluster.kubernetes.control_plane_endpoint}",
            }
        )

    def _with_a_seat(self, connection: Connection, asker: Asker) -> str:
        if time.monotonic() < self._down_until:
            self._tell(asker, _DOWN)
            raise Waits(_DOWN, LATER)
        if not self._seats.acquire(blocking=False):
            raise Waits("many machines join at once; ask again")
        try:
            return self._signed(connection, asker)
        finally:
            self._seats.release()

    def _signed(self, connection: Connection, asker: Asker) -> str:
        """Have the cluster sign the request, write the certificate down, and return it."""
        filed = self._filed(connection, asker)
        if filed.is_pending:
            failpoints.reached("claim.approve.before")
            self._must_be_bound(asker)
            connection.api.decide(
                filed.name,
                approve=True,
                reason="FirstlightClaim",
                message="the key that this machine claimed with",
            )
            failpoints.reached("claim.approve.after")
        certificate = self._awaited(connection, asker)
        found = self._found_right(connection, asker, certificate)
        failpoints.reached("claim.issue.before")
        self._keep(asker, certificate.decode(), found)
        failpoints.reached("claim.issue.after")
        return certificate.decode()

    def _filed(self, connection: Connection, asker: Asker) -> SigningRequest:
        """Return our request in the cluster; it is there already if an earlier answer was lost."""
        api, kubernetes = connection.api, self._site.cluster.kubernetes
        release = release_of(kubernetes.version)
        filed = api.signing_request(asker.file_name) or api.create_signing_request(
            asker.file_name,
            Signer.CLIENT,
            asker.request.pem,
            release.csr_usages,
            kubernetes.kubelet.certificate_life if release.has_expiration else None,
        )
        if not _is_ours(filed, asker):
            self._file_another(asker, f"{filed.name} was made by {filed.user[:64]} or for another key")
        return filed

    def _awaited(self, connection: Connection, asker: Asker) -> bytes:
        """Return the certificate as soon as it is there."""
        for _ in range(int(POLL_SECONDS / POLL_EVERY)):
            filed = connection.api.signing_request(asker.file_name)
            if filed is None or filed.refusal:
                self._file_another(asker, filed.refusal if filed else "it is gone")
            elif filed.certificate:
                return filed.certificate
            self._sleep(POLL_EVERY)
        self._tell(asker, "approved; waits for kube-controller-manager to sign")
        raise Waits("the cluster has not signed yet")

    def _found_right(self, connection: Connection, asker: Asker, certificate: bytes) -> Issued:
        try:
            found = issued(certificate, asker.request, asker.machine.name, connection.kubelet_authority)
        except RefusedRequest as error:
            log.critical("%s: the cluster signed something else: %s", asker.machine.name, error)
            self._file_another(asker, f"the cluster signed something else: {error}")
        if found.not_after <= self._site.clock():
            self._file_another(asker, "its certificate has ended")
        return found

    def _file_another(self, asker: Asker, reason: str) -> NoReturn:
        """Give up the request in the cluster: the machine's next claim files one with the next number."""

        def decide(record: MachineRecord | None, now: datetime) -> Change:
            del now
            if record is None:
                return Change()
            return claims.another_request(
                record, key=asker.request.fingerprint, issue=asker.claim.issue, reason=f"{LOST}: {reason}"
            )

        self._site.ledger.change(asker.machine.mac, decide)
        raise Waits(LOST)

    def _must_be_bound(self, asker: Asker) -> None:
        """Look again just before approving: somebody may have retired the machine, or come with a second key."""
        record = self._site.ledger.machine(asker.machine.mac)
        claim = record.claim if record and record.state in ON_DISK else None
        if claim is None or claim.key != asker.request.fingerprint:
            raise Refusal(409, f"{asker.machine.name} may not join any more")

    def _keep(self, asker: Asker, certificate: str, found: Issued) -> None:
        now = self._site.clock()
        kept = {"key": found.fingerprint, "from": now.timestamp(), "to": found.not_after.timestamp()}
        write = Put(key=_key(asker), value=json.dumps({**kept, "certificate": certificate}).encode())

        def decide(record: MachineRecord | None, at: datetime) -> Change:
            if record is None:
                raise NotFound
            change = claims.issued(
                record, at, key=found.fingerprint, issue=asker.claim.issue, expires_at=found.not_after
            )
            return with_writes(change, write)

        self._site.ledger.change(asker.machine.mac, decide)

    def _kept(self, asker: Asker) -> str | None:
        """Return the certificate that this key has, if enough of its life is left."""
        entry = self._site.store.get(_key(asker))
        if entry is None:
            return None
        kept = json.loads(entry.value)
        left = kept["to"] - self._site.clock().timestamp()
        is_good = kept["key"] == asker.request.fingerprint and left > LEAST_LIFE * (kept["to"] - kept["from"])
        return str(kept["certificate"]) if is_good else None

    def _tell(self, asker: Asker, message: str) -> None:
        """Let `status` show what the machine waits for."""
        self._site.ledger.change(
            asker.machine.mac,
            lambda record, _: claims.waits(record, message=f"claimed; {message}") if record else Change(),
        )

    def _later(self, wait: Waits) -> Answer:
        seconds = max(1, round(self._chance(*wait.span)))
        return json_answer({"reason": wait.reason}, 202, (("Retry-After", str(seconds)),))


_DOWN = "waits for the API server: it does not answer yet"
_REFUSES = "the API server refuses the appliance: run deploy.py apply"


def _why(error: ApiError) -> str:
    return _DOWN if isinstance(error, ApiDown) else _REFUSES


def _must_be_known(site: Site, mac: str) -> None:
    """Raise NotFound for an address that may claim nothing, whatever the reason."""
    record = site.ledger.machine(mac) if site.cluster.machine_by_mac(mac) else None
    if not site.cluster.control_plane.hosts or record is None or not claims.is_armed(record):
        raise NotFound


def _checked(record: MachineRecord | None, machine: Machine, asked: Claiming) -> Request:
    """Return the request, if the machine carries its current arm and the request is right."""
    _armed(record, asked.arm)
    try:
        return client_request(asked.csr.encode(errors="replace"), machine.name)
    except RefusedRequest as error:
        log.warning("%s sent a request that is refused: %s", machine.name, error)
        raise Refusal(400, f"csr: {error}") from error


def _armed(record: MachineRecord | None, arm: str) -> MachineRecord:
    if record is None or not claims.is_armed(record):
        raise NotFound
    return current(record, arm)


def _is_ours(filed: SigningRequest, asker: Asker) -> bool:
    try:
        key = client_request(filed.request, asker.machine.name).fingerprint
    except RefusedRequest:
        return False
    return filed.user == USER and filed.signer == Signer.CLIENT and key == asker.request.fingerprint


def _key(asker: Asker) -> str:
    return f"certificate/{asker.machine.mac}"
