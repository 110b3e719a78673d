"""Certificate signing requests made byte by byte, right ones and every kind of wrong one, without the code under test.

A `Plan` says what a request holds; whether it is right follows from the plan alone.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

UTF8, PRINTABLE, TELETEX, IA5, BMP, UNIVERSAL, NUMERIC = 0x0C, 0x13, 0x14, 0x16, 0x1E, 0x1C, 0x12
CN, O = "0603550403", "060355040a"  # noqa: E741  # X.520's own letter
OU, C, SERIAL, EMAIL = "060355040b", "0603550406", "0603550405", "06092a864886f70d010901"
SAN, BASIC, USAGE, EXTENDED = "0603551d11", "0603551d13", "0603551d0f", "0603551d25"
EXTENSION_REQUEST, CHALLENGE = "06092a864886f70d01090e", "06092a864886f70d010907"
SHA1, SHA256, SHA384 = "06072a8648ce3d0401", "06082a8648ce3d040302", "06082a8648ce3d040303"
RSA_SHA256 = "06092a864886f70d01010b0500"
DIGESTS: dict[str, hashes.HashAlgorithm] = {
    SHA1: hashes.SHA1(),
    SHA256: hashes.SHA256(),
    SHA384: hashes.SHA384(),
}
KEYS = ("p256", "p384", "p521", "k1", "rsa2048", "rsa8192", "ed25519", "p256-compressed")
GOOD_KEYS = ("p256", "p384")


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes(4, "big").lstrip(b"\0")
    return bytes([tag, 0x80 + len(size)]) + size + content


def oid(text: str) -> bytes:
    return bytes.fromhex(text)


def key(kind: str, number: int = 0) -> Any:
    """A private key of a kind; the same `number` gives the same key."""
    return _key(kind, number)


@cache
def _key(kind: str, number: int) -> Any:
    del number
    match kind:
        case "p256" | "p256-compressed":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "k1":
            return ec.generate_private_key(ec.SECP256K1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


@cache
def spki(kind: str, number: int = 0) -> bytes:
    public = key(kind, number).public_key()
    if kind == "p256-compressed":
        point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        algorithm = oid("06072a8648ce3d0201") + oid("06082a8648ce3d030107")
        return der(0x30, der(0x30, algorithm), der(0x03, b"\0", point))
    if kind == "rsa8192":  # nobody has the key: making one takes a minute, and the size is the attack
        number_ = der(0x02, b"\0" + b"\xc5" * 1024)
        inner = der(0x30, number_, der(0x02, b"\x01\x00\x01"))
        return der(0x30, der(0x30, oid("06092a864886f70d010101"), b"\x05\0"), der(0x03, b"\0", inner))
    found: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def signed(kind: str, number: int, tbs: bytes, digest: str) -> tuple[bytes, bytes]:
    """The algorithm and the signature of `tbs`."""
    private = key(kind, number)
    if kind.startswith("rsa"):
        return oid(RSA_SHA256), private.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    if kind == "ed25519":
        return oid("06032b6570"), private.sign(tbs)
    return oid(digest), private.sign(tbs, ec.ECDSA(DIGESTS[digest]))


Attribute = tuple[str, int, bytes]
"""Of a name: its OID, the kind of text, the text in its encoding."""


def extension(identifier: str, value: bytes, *, critical: bool = False) -> bytes:
    return der(0x30, oid(identifier), b"\x01\x01\xff" if critical else b"", der(0x04, value))


def names(*found: str) -> bytes:
    """A SubjectAltName of DNS names and addresses."""
    return der(0x30, *(general(name) for name in found))


def general(name: str) -> bytes:
    try:
        return der(0x87, ip_address(name).packed)
    except ValueError:
        return der(0x82, name.encode("latin-1"))


def extensions(*found: bytes) -> bytes:
    return der(0x30, oid(EXTENSION_REQUEST), der(0x31, der(0x30, *found)))


def challenge(text: str) -> bytes:
    return der(0x30, oid(CHALLENGE), der(0x31, der(UTF8, text.encode())))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a request is made of: RDNs as sets of attributes, the key, and what is done to it afterwards."""

    rdns: Sequence[Sequence[Attribute]]
    key: str = "p256"
    number: int = 0
    digest: str = SHA256
    attributes: tuple[bytes, ...] = ()
    version: int = 0
    spoil: str = ""
    shape: str = ""

    def pem(self) -> bytes:
        subject = der(
            0x30, *(der(0x31, *(der(0x30, oid(a), der(t, v)) for a, t, v in rdn)) for rdn in self.rdns)
        )
        version = bytes((0x02, 0x01, self.version))
        tbs = der(0x30, version, subject, spki(self.key, self.number), der(0xA0, *self.attributes))
        algorithm, signature = signed(self.key, self.number, tbs, self.digest)
        if self.spoil == "signature":
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        if self.spoil == "subject":
            tbs = tbs.replace(b"system:node", b"system:nodf", 1)
        if self.spoil == "stranger":
            _, signature = signed("p384", 99, tbs, SHA384)
        content = der(0x30, tbs, der(0x30, algorithm), der(0x03, b"\0", signature))
        if self.spoil == "trailing":
            content += b"\0"
        return framed(content, self.shape)


BEGIN, END = b"-----BEGIN CERTIFICATE REQUEST-----\n", b"-----END CERTIFICATE REQUEST-----\n"
SHAPES: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda text: BEGIN + text + END,
    "two": lambda text: (BEGIN + text + END) * 2,
    "new": lambda text: (BEGIN + text + END).replace(b"CERTIFICATE", b"NEW CERTIFICATE"),
    "certificate": lambda text: (BEGIN + text + END).replace(b" REQUEST", b""),
    "before": lambda text: b"Subject: CN=system:node:w1\n" + BEGIN + text + END,
    "after": lambda text: BEGIN + text + END + b"-----BEGIN PRIVATE KEY-----\n",
    "headers": lambda text: BEGIN + b"Proc-Type: 4,ENCRYPTED\n\n" + text + END,
    "crlf": lambda text: (BEGIN + text + END).replace(b"\n", b"\r\n"),
    "der": base64.decodebytes,
    "long": lambda text: BEGIN + text + b"\n" * 5000 + END,
    "nul": lambda text: BEGIN + b"\0" + text + END,
}


def framed(content: bytes, shape: str = "") -> bytes:
    """PEM around `content`; `shape` says in what wrong way."""
    return SHAPES[shape](base64.encodebytes(content))


def right(name: str, **changes: Any) -> Plan:
    """The plan of what a node called `name` should send."""
    user = ((CN, UTF8, f"system:node:{name}".encode()),)
    group = ((O, UTF8, b"system:nodes"),)
    return Plan(**{"rdns": (group, user), **changes})
