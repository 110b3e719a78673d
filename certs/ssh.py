"""SSH key pairs in OpenSSH's own format (PROTOCOL.key); Ed25519, which every sshd of this decade accepts."""

from typing import cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from certs.errors import DamagedFile
from certs.secret import Secret


def new_ssh_key() -> Secret:
    """Return a new private key in OpenSSH's format, without a passphrase."""
    key = Ed25519PrivateKey.generate()
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))


def public_line(private: Secret, comment: str) -> str:
    """Return the line for authorized_keys that belongs to a private key, without its end.

    Raises:
        DamagedFile: it is no private key in OpenSSH's format.
    """
    try:
        key = cast("Ed25519PrivateKey", load_ssh_private_key(private.reveal(), password=None))
    except (ValueError, UnsupportedAlgorithm):
        raise DamagedFile("not an SSH private key in OpenSSH's format") from None
    return f"{key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"
