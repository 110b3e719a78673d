"""Checks what a node signed with the key of its own certificate."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import RefusedRequest
from certs.requests import certificate_facts

LONGEST_SIGNATURE = 256  # bytes of DER; ECDSA on P-384 takes 104


def signer_of(certificate: bytes, content: bytes, signature: bytes) -> str:
    """Return the fingerprint of the key of `certificate` (PEM), which has signed `content`: ECDSA with SHA-256, in DER.

    Raises:
        RefusedRequest: it has not, or the certificate cannot be read.
    """
    fingerprint = certificate_facts(certificate).fingerprint
    key = x509.load_pem_x509_certificate(certificate).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or len(signature) > LONGEST_SIGNATURE:
        raise RefusedRequest("not a signature of ECDSA")
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise RefusedRequest("not signed by the node's own key") from error
    return fingerprint
