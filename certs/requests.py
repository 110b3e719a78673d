"""Checks what a node wants signed, and what the signer made of it; everything but exactly the right thing is refused.

A request is compared byte by byte with the few that are right (RFC 2986, section 4): what no parser has to
interpret, no two parsers can read differently. `system:node:NAME` and `system:nodes` are what the API server's Node
authorizer knows a node by ("Using Node Authorization" of kubernetes.io).
"""

import base64
import hashlib
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.errors import RefusedRequest
from certs.wanted import Address

USER_PREFIX = "system:node:"
GROUP = "system:nodes"
LONGEST_PEM = 4096  # a P-384 request with ten names takes 1.2 KiB

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/=\n]{16,})\n-----END CERTIFICATE REQUEST-----\n?"
)
# All that the library raises of what it cannot read.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
_CURVES = (ec.SECP256R1, ec.SECP384R1)
# ecdsa-with-SHA256, -SHA384 and -SHA512 (RFC 5758, section 3.2).
_ALGORITHMS = {
    hashes.SHA256: bytes.fromhex("06082a8648ce3d040302"),
    hashes.SHA384: bytes.fromhex("06082a8648ce3d040303"),
    hashes.SHA512: bytes.fromhex("06082a8648ce3d040304"),
}
# openssl writes UTF8String, Go writes PrintableString where the text allows it.
_TEXTS = (0x0C, 0x13)
_ORGANIZATION, _COMMON_NAME = bytes.fromhex("060355040a"), bytes.fromhex("0603550403")  # 2.5.4.10, 2.5.4.3
_VERSION = b"\x02\x01\x00"
_NO_ATTRIBUTES = b"\xa0\x00"
_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")  # 1.2.840.113549.1.9.14
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")  # 2.5.29.17
_SEQUENCE, _SET, _BITS, _OCTETS, _CONTEXT_0 = 0x30, 0x31, 0x03, 0x04, 0xA0


@dataclass(frozen=True)
class Request:
    """A request that was found right: its `pem`, and the `fingerprint` of its key.

    A fingerprint is the SHA-256 of the SubjectPublicKeyInfo in hex, as in RFC 7469, section 2.4.
    """

    pem: bytes
    fingerprint: str


@dataclass(frozen=True)
class Issued:
    """What a certificate says: the fingerprint of its key, and the time after which it is no longer valid."""

    fingerprint: str
    not_after: datetime


def client_request(pem: bytes, name: str) -> Request:
    """Return the request of the node called `name` for a client certificate.

    Right is only: PKCS#10 in one PEM block; subject `CN=system:node:NAME` and `O=system:nodes`, each an RDN of its
    own; a key on P-256 or P-384; no attribute and no extension; a valid ECDSA signature with SHA-2.

    Raises:
        RefusedRequest: it is anything else; the text says what.
    """
    request, spki = _parsed(pem)
    _must_be_one_of(request, _tbs(name, spki, _NO_ATTRIBUTES), name, spki)
    return Request(request.public_bytes(serialization.Encoding.PEM), _fingerprint(spki))


def serving_request(pem: bytes, name: str, addresses: Collection[Address]) -> Request:
    """Return the request of the node called `name` for its server certificate.

    Right is only: what `client_request` takes, with one extension, the subject alternative names, which are at
    least one of `name` and `addresses`, nothing else, and none twice.

    Raises:
        RefusedRequest: it is anything else; the text says what.
    """
    request, spki = _parsed(pem)
    names = _alternative_names(request)
    strange = [str(one.value) for one in names if not _is_own(one, name, addresses)]
    if not names or strange or len(set(names)) != len(names):
        raise RefusedRequest(
            f"the subject alternative names are not a selection of {name}'s own: {strange[:3]}"
            if strange
            else "the subject alternative names are missing, or one comes twice"
        )
    extension = _der(
        _SEQUENCE, _SUBJECT_ALT_NAME + _der(_OCTETS, x509.SubjectAlternativeName(names).public_bytes())
    )
    wanted = _EXTENSION_REQUEST + _der(_SET, _der(_SEQUENCE, extension))
    _must_be_one_of(request, _tbs(name, spki, _der(_CONTEXT_0, _der(_SEQUENCE, wanted))), name, spki)
    return Request(request.public_bytes(serialization.Encoding.PEM), _fingerprint(spki))


def issued(pem: bytes, request: Request, name: str, authority: bytes) -> Issued:
    """Return what the certificate in `pem` says, which was made for `request` of the node called `name`.

    `authority` is the CA's certificate in PEM.

    Raises:
        RefusedRequest: it is no such certificate: another key, another subject, another issuer, or itself a CA.
    """
    found = _certificate(pem)
    if _fingerprint(_spki(found)) != request.fingerprint:
        raise RefusedRequest("the certificate is for another key")
    if found.subject.public_bytes() not in _subjects(name):
        raise RefusedRequest(f"the certificate is not for {USER_PREFIX}{name}")
    _must_be_of(found, _certificate(authority))
    return Issued(request.fingerprint, found.not_valid_after_utc)


def certificate_facts(pem: bytes) -> Issued:
    """Return what a certificate says, whoever signed it.

    Raises:
        RefusedRequest: it is no certificate.
    """
    found = _certificate(pem)
    return Issued(_fingerprint(_spki(found)), found.not_valid_after_utc)


def _parsed(pem: bytes) -> tuple[x509.CertificateSigningRequest, bytes]:
    """Return the request and its key as SubjectPublicKeyInfo in DER, once its signature was found valid."""
    block = _PEM.fullmatch(pem) if len(pem) <= LONGEST_PEM else None
    if block is None:
        raise RefusedRequest(f"not one PEM block CERTIFICATE REQUEST of at most {LONGEST_PEM} bytes")
    try:
        content = base64.b64decode(block[1].replace(b"\n", b""), validate=True)
        with warnings.catch_warnings():
            # The library warns of odd encodings; all of those are refused here.
            warnings.simplefilter("ignore")
            request = x509.load_der_x509_csr(content)
            key, digest = request.public_key(), request.signature_hash_algorithm
    except _UNREADABLE as error:
        raise RefusedRequest("not a certificate signing request (RFC 2986) of a known kind") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
        raise RefusedRequest("the key is not on P-256 or P-384")
    _must_be_signed(request, key, digest, content)
    return request, key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _must_be_signed(
    request: x509.CertificateSigningRequest,
    key: ec.EllipticCurvePublicKey,
    digest: hashes.HashAlgorithm | None,
    content: bytes,
) -> None:
    algorithm = _ALGORITHMS.get(type(digest)) if digest is not None else None
    if algorithm is None or digest is None:
        raise RefusedRequest("the signature is not made with SHA-2")
    signature = _der(_BITS, b"\0" + request.signature)
    if content != _der(_SEQUENCE, request.tbs_certrequest_bytes + _der(_SEQUENCE, algorithm) + signature):
        raise RefusedRequest("it is not encoded in DER (X.690)")
    try:
        key.verify(request.signature, request.tbs_certrequest_bytes, ec.ECDSA(digest))
    except (InvalidSignature, ValueError) as error:
        raise RefusedRequest("the signature is not of the key in the request") from error


def _must_be_one_of(
    request: x509.CertificateSigningRequest, wanted: Collection[bytes], name: str, spki: bytes
) -> None:
    tbs = request.tbs_certrequest_bytes
    if tbs in wanted:
        return
    if any(_VERSION + subject + spki in tbs for subject in _subjects(name)):
        raise RefusedRequest("it holds attributes or extensions beyond those that are allowed")
    raise RefusedRequest(f"the subject is not exactly CN={USER_PREFIX}{name} and O={GROUP}")


def _tbs(name: str, spki: bytes, attributes: bytes) -> set[bytes]:
    """Return the encodings of a CertificationRequestInfo that are right."""
    return {_der(_SEQUENCE, _VERSION + subject + spki + attributes) for subject in _subjects(name)}


def _subjects(name: str) -> Iterator[bytes]:
    """Yield the encodings of the subject that are right: two kinds of text, in either order."""
    for kind_of_group in _TEXTS:
        for kind_of_user in _TEXTS:
            group = _rdn(_ORGANIZATION, kind_of_group, GROUP)
            user = _rdn(_COMMON_NAME, kind_of_user, USER_PREFIX + name)
            yield _der(_SEQUENCE, group + user)
            yield _der(_SEQUENCE, user + group)


def _rdn(attribute: bytes, kind: int, text: str) -> bytes:
    """Return a relative distinguished name of one attribute."""
    return _der(_SET, _der(_SEQUENCE, attribute + _der(kind, text.encode("ascii"))))


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return list(found.value)
    except _UNREADABLE as error:
        raise RefusedRequest("the subject alternative names are missing or cannot be read") from error


def _is_own(found: x509.GeneralName, name: str, addresses: Collection[Address]) -> bool:
    match found:
        case x509.DNSName():
            return found.value == name
        case x509.IPAddress():
            return found.value in addresses
        case _:
            return False


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_pem_x509_certificate(pem)
    except _UNREADABLE as error:
        raise RefusedRequest("not a certificate in PEM") from error


def _spki(found: x509.Certificate) -> bytes:
    try:
        key = found.public_key()
    except _UNREADABLE as error:
        raise RefusedRequest("the certificate's key is of no known kind") from error
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _must_be_of(found: x509.Certificate, authority: x509.Certificate) -> None:
    """Refuse a certificate that `authority` did not sign, or that may sign others or serve."""
    try:
        found.verify_directly_issued_by(authority)
        uses = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        rights = [one.value.ca for one in found.extensions if isinstance(one.value, x509.BasicConstraints)]
    except (InvalidSignature, *_UNREADABLE) as error:
        raise RefusedRequest(
            "the certificate is not of the cluster's CA, or has no extended key usage"
        ) from error
    if list(uses) != [ExtendedKeyUsageOID.CLIENT_AUTH] or any(rights):
        raise RefusedRequest("the certificate is good for more than a client")


def _fingerprint(spki: bytes) -> str:
    return hashlib.sha256(spki).hexdigest()


def _der(tag: int, content: bytes) -> bytes:
    """Return `content` under `tag` with its length in the shortest form (X.690, section 10.1)."""
    size = len(content)
    if size < 0x80:  # noqa: PLR2004  # the largest length of one byte
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
