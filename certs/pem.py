"""Keys and certificates to PEM and back."""

import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import DamagedFile, WrongPassphrase
from certs.sealing import sealed
from certs.secret import Secret

Key = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

_ENCRYPTED = b"ENCRYPTED"


def new_key() -> Key:
    """Return a new private key on P-256, the one curve that all of Kubernetes, etcd and iPXE take."""
    return ec.generate_private_key(ec.SECP256R1())


def is_encrypted(pem: Secret) -> bool:
    """Tell whether the key cannot be read without a passphrase."""
    return _ENCRYPTED in pem.reveal()


def key_pem(key: Key, passphrase: Secret | None = None) -> Secret:
    """Return the key as PKCS#8 (RFC 5958), encrypted if a passphrase is given."""
    shape, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    if passphrase is None:
        return Secret(key.private_bytes(serialization.Encoding.PEM, shape, plain))
    return sealed(Secret(key.private_bytes(serialization.Encoding.DER, shape, plain)), passphrase)


def key_from(pem: Secret, passphrase: Secret | None, *, where: str) -> Key:
    """Return the private key in `pem`; `where` is the file it came from, for the error text.

    Raises:
        DamagedFile: it is no ECDSA P-256 key.
        WrongPassphrase: it is encrypted and does not open.
    """
    is_sealed = is_encrypted(pem)
    if is_sealed and passphrase is None:
        raise WrongPassphrase(f"{where}: the key is encrypted; give the passphrase it was encrypted with")
    try:
        key = serialization.load_pem_private_key(
            pem.reveal(), passphrase.reveal() if is_sealed and passphrase else None
        )
    # `from None`: the cause adds nothing for people, and a traceback would show its view of the key.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if is_sealed:
            raise WrongPassphrase(
                f"{where}: the key does not open: the passphrase is wrong, or the file is damaged; "
                "give the passphrase it was encrypted with, or put the file back from a backup"
            ) from None
        raise DamagedFile(f"{where}: holds no private key; put the file back from a backup") from None
    if not isinstance(key, Key) or not isinstance(key.curve, ec.SECP256R1):
        raise DamagedFile(f"{where}: holds a key of another kind; only ECDSA P-256 is used here")
    return key


def public_pem(key: PublicKey) -> bytes:
    """Return the public key as SubjectPublicKeyInfo (RFC 5480)."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_from(pem: bytes, *, where: str, remedy: str) -> x509.Certificate:
    """Return the first certificate in `pem`; the error text names its file `where` and the `remedy`.

    Raises:
        DamagedFile: it is no certificate.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of odd encodings that it reads all the same
            certificate = x509.load_pem_x509_certificate(pem)
            # Parts are decoded only when asked for, and a damaged one must show here.
            _ = certificate.extensions, certificate.subject, certificate.not_valid_after_utc
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise DamagedFile(f"{where}: holds no readable certificate; {remedy}") from None
    return certificate
