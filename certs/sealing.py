"""Encrypts a private key under a passphrase, in the standard form that OpenSSL and this library read.

The library's own "best available" encryption derives the key with 2,048 rounds, which a graphics card tries
millions of times a second. The form allows any number; so it is put together here (RFC 5958 3, RFC 8018 6.2).
"""

import base64
import secrets
import textwrap

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from certs.secret import Secret

# OWASP's figure for PBKDF2 with HMAC-SHA-256 (2023); about 0.15 s for each of the four authorities.
ROUNDS = 600_000

_SALT_BYTES = 16
_KEY_BYTES = 32
_LABEL = "ENCRYPTED PRIVATE KEY"

# DER tags (X.690 8).
_INTEGER, _OCTETS, _NULL, _SEQUENCE = 0x02, 0x04, 0x05, 0x30
# Object identifiers, ready encoded: 1.2.840.113549.1.5.13, .1.5.12, .2.9, and 2.16.840.1.101.3.4.1.42.
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")
_AES256_CBC = bytes.fromhex("060960864801650304012a")


def sealed(plain: Secret, passphrase: Secret) -> Secret:
    """Return the PKCS#8 key `plain` (DER) as encrypted PEM: PBES2, PBKDF2-HMAC-SHA-256, AES-256-CBC."""
    salt, vector = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(algorithms.AES.block_size // 8)
    derive = PBKDF2HMAC(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=salt, iterations=ROUNDS)
    content = _encrypted(plain.reveal(), derive.derive(passphrase.reveal()), vector)
    return _pem(_der(_SEQUENCE, _algorithm(salt, vector), _der(_OCTETS, content)))


def _encrypted(plain: bytes, key: bytes, vector: bytes) -> bytes:
    pad = padding.PKCS7(algorithms.AES.block_size).padder()
    encrypt = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return encrypt.update(pad.update(plain) + pad.finalize()) + encrypt.finalize()


def _algorithm(salt: bytes, vector: bytes) -> bytes:
    rounds = _der(_INTEGER, ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1))
    digest = _der(_SEQUENCE, _HMAC_SHA256, _der(_NULL))
    derivation = _der(_SEQUENCE, _PBKDF2, _der(_SEQUENCE, _der(_OCTETS, salt), rounds, digest))
    cipher = _der(_SEQUENCE, _AES256_CBC, _der(_OCTETS, vector))
    return _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, derivation, cipher))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:  # noqa: PLR2004  # X.690 8.1.3.4: lengths below 128 stand in one byte
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + content


def _pem(der: bytes) -> Secret:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return Secret("\n".join((f"-----BEGIN {_LABEL}-----", *lines, f"-----END {_LABEL}-----", "")).encode())
