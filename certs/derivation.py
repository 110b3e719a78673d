"""Symmetric keys that follow from a private key, so that no other kind of secret has to be kept."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certs.pem import key_from
from certs.secret import Secret

BYTES = 32
"""Length of a derived key; the private keys here hold 256 random bits too."""


def derived_key(pem: Secret, purpose: str) -> Secret:
    """Return the 32 bytes for `purpose` that follow from the private key in `pem` (HKDF-SHA-256, RFC 5869).

    Raises:
        DamagedFile: `pem` is no private key of ours.
    """
    number = key_from(pem, None, where=purpose).private_numbers().private_value
    derive = HKDF(algorithm=hashes.SHA256(), length=BYTES, salt=None, info=purpose.encode())
    return Secret(derive.derive(number.to_bytes(BYTES)))
