"""Certificates of kubelets that `apply` makes on control-plane hosts: for a key that is made there and stays there.

Machines claim theirs from the appliance. A control-plane host is reached over SSH, which has proven who it is, and
the authority that signs for kubelets is at hand: so nothing has to be shared to join.
"""

from datetime import datetime, timedelta

from cryptography import x509

from certs.authority import Authority
from certs.errors import DamagedFile, RefusedRequest
from certs.keyring import Keyring
from certs.pem import certificate_from, certificate_pem, key_from
from certs.requests import GROUP, USER_PREFIX, Request, certificate_facts, client_request, issued
from certs.wanted import BACKDATE, Use, WantedLeaf

AUTHORITY = "kubelet-ca"
LATE = 10
"""A kubelet renews when 70 to 90 % of its certificate's life are over: in the last tenth nobody has renewed it."""


def node_certificate(keyring: Keyring, request: bytes, name: str, *, life: timedelta, now: datetime) -> bytes:
    """Return in PEM the client certificate of the node called `name` for the key in `request`, a CSR in PEM.

    It lives for `life` from now on, and an hour before: the node's clock may be behind.

    Raises:
        RefusedRequest: the request is not exactly that of this node (`certs.requests.client_request`).
        CertsError: the authority is not valid now.
    """
    right = client_request(request, name)
    row = WantedLeaf(
        name=f"kubelet of {name}",
        issuer=AUTHORITY,
        common_name=f"{USER_PREFIX}{name}",
        organization=GROUP,
        uses=frozenset({Use.CLIENT}),
        life=life + BACKDATE,
    )
    key = x509.load_pem_x509_csr(right.pem).public_key()
    return certificate_pem(_authority(keyring).issue(row, key, now=now))  # type: ignore[arg-type]  # P-256 or P-384


def node_certificate_problem(certificate: bytes, name: str, authority: bytes, now: datetime) -> str:
    """Return why the node called `name` needs another certificate than this one (PEM), or nothing.

    `authority` is the certificate of the one that signs for kubelets, in PEM.
    """
    if not certificate:
        return "it has none"
    try:
        issued(certificate, Request(b"", certificate_facts(certificate).fingerprint), name, authority)
        found = certificate_from(certificate, where="its file", remedy="")
    except (RefusedRequest, DamagedFile) as error:
        return f"what it has does not fit: {error}"
    start, end = found.not_valid_before_utc, found.not_valid_after_utc
    if now >= end:
        return f"what it has ended at {end:%Y-%m-%d %H:%M} UTC"
    if end - now < (end - start) / LATE:
        return f"what it has ends at {end:%Y-%m-%d %H:%M} UTC, and was not renewed"
    return ""


def _authority(keyring: Keyring) -> Authority:
    where = f"pki/{AUTHORITY}.crt"
    return Authority(
        certificate=certificate_from(
            keyring.certificates[AUTHORITY], where=where, remedy="put it back from a backup"
        ),
        key=key_from(keyring.keys[AUTHORITY], None, where=f"pki/{AUTHORITY}.key"),
        where=where,
    )
