"""A cluster in memory that signs as the real one does, and machines with real keys and requests."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from werkzeug.test import TestResponse

from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.kubernetes.access import Signer
from bootstrap.kubernetes.seen import NodeMarks, NodeView, SigningRequest
from bootstrap.model import Cluster
from tests.unit.certs.crafted import SAN, extension, extensions, names, right
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, cluster
from web.credentials import USER, Connection

LIFE = timedelta(days=7)
PENDING = SigningRequest(
    name="",
    signer="",
    user="",
    groups=(),
    usages=(),
    request=b"",
    certificate=b"",
    is_approved=False,
    refusal="",
)


@dataclass
class Authority:
    """Signs client certificates of a day's work."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    name: x509.Name = field(
        default_factory=lambda: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes-kubelet-ca")])
    )

    def sign(self, subject: x509.Name, public: Any, now: datetime, life: timedelta = LIFE) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + life)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    @property
    def pem(self) -> bytes:
        return self.sign(
            self.name, self.key.public_key(), datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=3650)
        )


@dataclass
class FakeCluster:
    """Keeps requests, signs the approved ones; can be down, refuse, deny, lose or not sign."""

    clock: Callable[[], datetime]
    authority: Authority = field(default_factory=Authority)
    requests: dict[str, SigningRequest] = field(default_factory=dict)
    seen: list[NodeView] = field(default_factory=list)
    marks: dict[str, NodeMarks] = field(default_factory=dict)
    trouble: Exception | None = None
    signs: bool = True
    life: timedelta = LIFE
    made: int = 0
    created: int = 0
    lock: Any = field(default_factory=threading.RLock)

    def __call__(self, cluster: Cluster) -> Connection:
        del cluster
        pem = b"-----BEGIN CERTIFICATE-----\nAPI\n-----END CERTIFICATE-----\n"
        return Connection(self, self, pem, self.authority.pem, self)

    def node_marks(self) -> list[NodeMarks]:
        self._answer()
        return list(self.marks.values())

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        self._answer()
        node = self.marks[name]
        if patch["metadata"]["resourceVersion"] != node.revision:
            raise ApiRefused("the object has been modified", 409)
        taints = tuple(patch["spec"]["taints"] or ())
        self.marks[name] = replace(node, taints=taints, revision=str(int(node.revision) + 1))

    def signing_requests(self, signer: Signer) -> list[SigningRequest]:
        self._answer()
        return [one for one in self.requests.values() if one.signer == signer]

    def signing_request(self, name: str) -> SigningRequest | None:
        self._answer()
        return self.requests.get(name)

    def create_signing_request(
        self, name: str, signer: Signer, request: bytes, usages: Sequence[str], lifetime_seconds: int | None
    ) -> SigningRequest:
        self._answer()
        assert lifetime_seconds == self.life.total_seconds()
        with self.lock:
            if name not in self.requests:
                self.created += 1
                self.file(name, signer, request, usages=tuple(usages))
            return self.requests[name]

    def file(
        self, name: str, signer: Signer, request: bytes, *, user: str = USER, usages: tuple[str, ...] = ()
    ) -> None:
        usages = usages or ("digital signature", "client auth" if signer is Signer.CLIENT else "server auth")
        self.requests[name] = replace(
            PENDING, name=name, signer=str(signer), user=user, usages=usages, request=request
        )

    def decide(self, name: str, *, approve: bool, reason: str, message: str) -> None:
        self._answer()
        assert reason.startswith("Firstlight")
        with self.lock:
            found = self.requests[name]
            if not found.is_pending:
                return
            if not approve:
                self.requests[name] = replace(found, refusal=f"denied: {message}")
                return
            self.requests[name] = replace(found, is_approved=True, certificate=self._certificate(found))

    def nodes(self) -> list[NodeView]:
        self._answer()
        return self.seen

    def _certificate(self, found: SigningRequest) -> bytes:
        if not self.signs:
            return b""
        self.made += 1
        request = x509.load_pem_x509_csr(found.request)
        return self.authority.sign(request.subject, request.public_key(), self.clock(), self.life)

    def _answer(self) -> None:
        if self.trouble is not None:
            raise self.trouble


DOWN = ApiDown("no API server answers at https://10.77.0.11:6443")
REFUSES = ApiRefused("certificatesigningrequests is forbidden", 403)


@cache
def csr(name: str = "w1", number: int = 0) -> str:
    """The right request of a machine, with its key of this number."""
    return right(name, number=number).pem().decode()


def serving(name: str = "w1", *sans: str, number: int = 0) -> bytes:
    """A kubelet's request for its server certificate."""
    wanted = extensions(extension(SAN, names(*(sans or (name, "10.77.0.101")))))
    return right(name, number=number, attributes=(wanted,)).pem()


def view(
    name: str = "w1", *, is_ready: bool = True, message: str = "kubelet is posting ready status"
) -> NodeView:
    return NodeView(
        name=name, is_ready=is_ready, message=message, addresses=(), version="v1.36.4", is_cordoned=False
    )


@dataclass
class JoiningRack(Rack):
    """A rack whose machines join a cluster."""

    cluster: Cluster = field(default_factory=lambda: cluster(hosts=1))
    kube: FakeCluster = field(init=False)

    def __post_init__(self) -> None:
        self.kube = FakeCluster(self.clock)
        self.connect = self.kube
        super().__post_init__()

    def install(self, mac: str = W1) -> None:
        """Bring a machine to its disk."""
        self.tell("booted", mac, address="10.77.0.101")

    def claim(self, text: str | None = None, mac: str = W1, **more: Any) -> TestResponse:
        body = {"mac": mac, "arm": self.record(mac).arm, "csr": csr() if text is None else text} | more
        return self.ask("machine", "POST", "/v1/claim", json=body)

    def arm(self, name: str = "w1") -> None:
        self.operator("POST", f"/v1/machines/{name}/arm")

    def alarms(self, mac: str = W1) -> list[str]:
        return [event.reason for event in self.site.ledger.events_of(mac) if event.what == "alarm"]
