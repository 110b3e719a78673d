"""What a node signed is believed for its own key's certificate, and for nothing else."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.errors import RefusedRequest
from certs.requests import certificate_facts
from certs.statements import signer_of

TEXT = b'{"state": "ready"}'
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:node:w1")])


def certificate(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateBuilder(NAME, NAME, key.public_key(), 1, BEGIN, END)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_a_signature_of_its_key_gives_the_key_s_fingerprint(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    pem = certificate(key)

    assert (
        signer_of(pem, TEXT, key.sign(TEXT, ec.ECDSA(hashes.SHA256()))) == certificate_facts(pem).fingerprint
    )


def test_anything_else_is_refused() -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    right = key.sign(TEXT, ec.ECDSA(hashes.SHA256()))
    cases = [
        (certificate(other), TEXT, right),
        (certificate(key), TEXT + b" ", right),
        (certificate(key), TEXT, right[:-1]),
        (certificate(key), TEXT, b""),
        (certificate(key), TEXT, right + bytes(300)),
        (certificate(key), TEXT, key.sign(TEXT, ec.ECDSA(hashes.SHA384()))),
        (b"no certificate", TEXT, right),
        (certificate(rsa.generate_private_key(65537, 2048)), TEXT, right),
    ]

    for pem, content, signature in cases:
        with pytest.raises(RefusedRequest):
            signer_of(pem, content, signature)
