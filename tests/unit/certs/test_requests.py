"""T-04: of all requests that can be made, only exactly the right one is taken, whatever its encoding."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.errors import RefusedRequest
from certs.requests import certificate_facts, client_request, issued, serving_request
from tests.tier import Promise, rounds, seed
from tests.unit.certs import crafted
from tests.unit.certs.crafted import (
    BMP,
    CN,
    EMAIL,
    IA5,
    OU,
    PRINTABLE,
    TELETEX,
    UNIVERSAL,
    UTF8,
    Attribute,
    C,
    O,
    Plan,
    right,
)

NAME = "w1"
USER, GROUP = f"system:node:{NAME}".encode(), b"system:nodes"
OWN = (ip_address("10.77.0.101"),)
COUNT = rounds(500, 20_000)


def is_taken(pem: bytes, name: str = NAME) -> bool:
    try:
        client_request(pem, name)
    except RefusedRequest:
        return False
    return True


WRONG_USERS = (
    b"system:node:w2",
    b"system:node:W1",
    b"System:node:w1",
    b"system:node:w1 ",
    b" system:node:w1",
    b"system:node:w1.",
    b"system:node:w1\0",
    b"system:node:w1\0.evil",
    b"system:node:",
    b"system:node:w11",
    b"system:node:w",
    b"system:node:w1,O=system:masters",
    b"system:node:\xef\xbd\x971",
    b"kube-apiserver",
    b"kubernetes-admin",
    b"system:kube-controller-manager",
    b"firstlight:claims",
    b"",
)
WRONG_GROUPS = (
    b"system:masters",
    b"system:nodes ",
    b"system:Nodes",
    b"system:node",
    b"system:nodes\0",
    b"os:admin",
    b"kubeadm:cluster-admins",
    b"",
)
ENCODINGS = {TELETEX: "latin-1", IA5: "ascii", BMP: "utf-16-be", UNIVERSAL: "utf-32-be"}
OWN_NAME = crafted.extensions(crafted.extension(crafted.SAN, crafted.names("w1")))
ATTRIBUTES = (
    OWN_NAME,
    crafted.challenge("secret"),
    crafted.extensions(crafted.extension(crafted.SAN, crafted.names("kubernetes", "10.3.0.1"))),
    crafted.extensions(crafted.extension(crafted.BASIC, bytes.fromhex("30030101ff"), critical=True)),
    crafted.extensions(crafted.extension(crafted.USAGE, bytes.fromhex("03020106"), critical=True)),
    crafted.extensions(crafted.extension(crafted.EXTENDED, bytes.fromhex("300a06082b06010505070301"))),
    crafted.extensions(),
    crafted.extensions(crafted.extension("0603551d11", b"\xff\xff")),
    bytes.fromhex("3000"),
)
SPOILS = ("signature", "subject", "stranger", "trailing")
BAD_KEYS = ("p521", "k1", "rsa2048", "ed25519", "p256-compressed")


@st.composite
def right_plans(draw: st.DrawFn) -> Plan:
    """What is right: either order, two kinds of text, two curves, three digests."""
    texts = st.sampled_from((UTF8, PRINTABLE))
    rdns = [[(O, draw(texts), GROUP)], [(CN, draw(texts), USER)]]
    kind = draw(st.sampled_from(crafted.GOOD_KEYS))
    digest = draw(st.sampled_from((crafted.SHA256, crafted.SHA384)))
    return Plan(rdns=draw(st.permutations(rdns)), key=kind, digest=digest, number=draw(st.integers(0, 3)))


Misses = dict[str, Any]


def other_user(draw: st.DrawFn, g: Attribute, u: Attribute) -> Misses:
    return {"rdns": [[g], [(CN, u[1], draw(st.sampled_from(WRONG_USERS)))]]}


def other_group(draw: st.DrawFn, g: Attribute, u: Attribute) -> Misses:
    return {"rdns": [[(O, g[1], draw(st.sampled_from(WRONG_GROUPS)))], [u]]}


def other_shape_of_subject(draw: st.DrawFn, g: Attribute, u: Attribute) -> Misses:
    masters = (O, UTF8, b"system:masters")
    shapes: tuple[list[list[Attribute]], ...] = (
        [[g, u]],
        [[u, g]],
        [[g]],
        [[u]],
        [],
        [[g], [u], [g]],
        [[g], [u], [u]],
        [[masters], [g], [u]],
    )
    return {"rdns": draw(st.sampled_from(shapes))}


def one_more_attribute(draw: st.DrawFn, g: Attribute, u: Attribute) -> Misses:
    extra = draw(st.sampled_from(((OU, UTF8, b"x"), (C, PRINTABLE, b"DE"), (EMAIL, IA5, b"a@b"))))
    return {"rdns": draw(st.permutations([[g], [u], [extra]]))}


def other_text(draw: st.DrawFn, g: Attribute, u: Attribute) -> Misses:
    kind = draw(st.sampled_from(sorted(ENCODINGS)))
    texts = [[(a, kind, v.decode().encode(ENCODINGS[kind]))] for a, _, v in (g, u)]
    return {"rdns": draw(st.sampled_from(([texts[0], [u]], [[g], texts[1]], texts)))}


def attributes(draw: st.DrawFn, g: Attribute, u: Attribute) -> Misses:
    del g, u
    return {"attributes": tuple(draw(st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=2)))}


def one_of(*choices: Misses) -> Callable[[st.DrawFn, Attribute, Attribute], Misses]:
    def choose(draw: st.DrawFn, g: Attribute, u: Attribute) -> Misses:
        del g, u
        return draw(st.sampled_from(choices))

    return choose


MISSES = (
    other_user,
    other_group,
    other_shape_of_subject,
    one_more_attribute,
    other_text,
    attributes,
    one_of(*({"key": kind} for kind in BAD_KEYS)),
    one_of(*({"spoil": spoil} for spoil in SPOILS)),
    one_of(*({"shape": shape} for shape in crafted.SHAPES if shape)),
    one_of({"version": 1}, {"version": 2}, {"digest": crafted.SHA1}),
)


@st.composite
def near_misses(draw: st.DrawFn) -> Plan:
    """A right plan with one thing wrong."""
    plan = draw(right_plans())
    group, user = (next(r[0] for r in plan.rdns if r[0][0] == kind) for kind in (O, CN))
    return Plan(**{**vars(plan), **draw(st.sampled_from(MISSES))(draw, group, user)})


def damaged(plan: Plan, position: int, bit: int) -> bytes:
    """The PEM of a plan with one bit of its DER flipped."""
    content = bytearray(Plan(**{**vars(plan), "shape": "der"}).pem())
    content[position % len(content)] ^= 1 << bit
    return crafted.framed(bytes(content))


def test_twenty_thousand_requests_have_no_wrong_answer(promise: Promise) -> None:
    """One in ten is a near miss, one in twenty a right one with a bit flipped; the plan says what is right."""
    told = {"right": 0, "near": 0, "bits": 0}
    some = st.integers(0, 19)

    @seed_of_run
    @settings(max_examples=COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data(), some)
    def check(data: st.DataObject, lot: int) -> None:
        if lot < 2:
            told["near"] += 1
            assert not is_taken(data.draw(near_misses()).pem())
        elif lot == 2:
            told["bits"] += 1
            plan = data.draw(right_plans())
            assert not is_taken(damaged(plan, data.draw(st.integers(0, 1000)), data.draw(st.integers(0, 7))))
        else:
            told["right"] += 1
            plan = data.draw(right_plans())
            assert is_taken(plan.pem()) is True
            assert not is_taken(plan.pem(), "w2")

    check()
    assert min(told.values()) > 0, told
    promise(
        promise="T-04 certificate requests",
        asked="20000 generated requests, at least one in ten a near miss: 0 wrong answers",
        done=f"{sum(told.values())} requests: {told}",
        found="0 wrong approvals, 0 right ones refused",
        seed=seed(),
    )


def seed_of_run(test: Any) -> Any:
    from hypothesis import seed as hypothesis_seed  # noqa: PLC0415  # its name is also ours

    return hypothesis_seed(seed())(test)


@settings(max_examples=rounds(300, 5000), deadline=None, database=None)
@given(st.binary(max_size=6000) | st.text(max_size=2000).map(str.encode))
def test_no_bytes_make_a_traceback(content: bytes) -> None:
    assert not is_taken(content)
    assert not is_taken(crafted.framed(content))


@settings(max_examples=rounds(300, 5000), deadline=None, database=None)
@given(near_misses())
def test_no_near_miss_is_taken(plan: Plan) -> None:
    assert not is_taken(plan.pem())
    assert serves(plan.pem()) is (plan.attributes == (OWN_NAME,))


def test_an_enormous_rsa_key_is_refused_before_its_signature_is_looked_at() -> None:
    subject = crafted.der(
        0x30,
        *(
            crafted.der(0x31, crafted.der(0x30, crafted.oid(a), crafted.der(UTF8, v)))
            for a, v in ((O, GROUP), (CN, USER))
        ),
    )
    tbs = crafted.der(0x30, b"\x02\x01\x00", subject, crafted.spki("rsa8192"), crafted.der(0xA0))
    algorithm = crafted.der(0x30, crafted.oid(crafted.RSA_SHA256))
    content = crafted.der(0x30, tbs, algorithm, crafted.der(0x03, b"\0" + b"\x01" * 1024))

    with pytest.raises(RefusedRequest, match="P-256 or P-384"):
        client_request(crafted.framed(content), NAME)


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_what_openssl_on_a_node_makes_is_taken(tmp_path: Path, curve: str) -> None:
    """The very commands of configs/node/join."""
    key, request = tmp_path / "key", tmp_path / "csr"
    make = (
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        f"ec_paramgen_curve:{curve}",
        "-out",
        str(key),
    )
    subprocess.run(make, check=True, capture_output=True)
    subject = "/O=system:nodes/CN=system:node:w1"
    ask = ("openssl", "req", "-new", "-key", str(key), "-subj", subject, "-out", str(request))
    subprocess.run(ask, check=True, capture_output=True)

    assert len(client_request(request.read_bytes(), NAME).fingerprint) == 64


@pytest.mark.parametrize(
    ("found", "is_right"),
    [
        (("w1", "10.77.0.101"), True),
        (("w1",), True),
        (("10.77.0.101",), True),
        ((), False),
        (("w2",), False),
        (("w1", "w2"), False),
        (("w1", "w1"), False),
        (("W1",), False),
        (("w1", "10.77.0.102"), False),
        (("10.3.0.1",), False),
        (("kubernetes",), False),
        (("*",), False),
        (("w1.",), False),
        (("w1\0",), False),
        (("::ffff:10.77.0.101",), False),
    ],
)
def test_a_serving_request_names_the_node_and_its_addresses_only(
    found: tuple[str, ...],
    is_right: bool,  # noqa: FBT001  # a table
) -> None:
    wanted = crafted.extension(crafted.SAN, crafted.names(*found))
    pem = right(NAME, attributes=(crafted.extensions(wanted),)).pem()

    assert serves(pem) is is_right


@pytest.mark.parametrize(
    "extra",
    [
        (crafted.extension(crafted.BASIC, bytes.fromhex("30030101ff")),),
        (crafted.extension(crafted.SAN, crafted.names("w1")),),
        (crafted.extension(crafted.EXTENDED, bytes.fromhex("300a06082b06010505070302")),),
    ],
)
def test_a_serving_request_has_one_extension(extra: tuple[bytes, ...]) -> None:
    own = crafted.extension(crafted.SAN, crafted.names("w1"))

    assert not serves(right(NAME, attributes=(crafted.extensions(own, *extra),)).pem())
    assert not serves(right(NAME, attributes=(crafted.extensions(own), crafted.challenge("x"))).pem())
    assert not serves(right(NAME, attributes=(crafted.extensions(own), crafted.extensions(*extra))).pem())


def test_other_kinds_of_names_are_refused() -> None:
    for general in ("a6023000", "8603612f62", "8103406162", "88022a03"):
        value = crafted.der(0x30, crafted.general("w1"), bytes.fromhex(general))
        pem = right(NAME, attributes=(crafted.extensions(crafted.extension(crafted.SAN, value)),)).pem()
        assert not serves(pem)


def serves(pem: bytes) -> bool:
    try:
        serving_request(pem, NAME, OWN)
    except RefusedRequest:
        return False
    return True


def authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes-ca")])
    return certificate(name, name, key.public_key(), key), key


def certificate(
    subject: x509.Name, issuer: x509.Name, public: Any, key: Any, **more: Any
) -> x509.Certificate:
    start = datetime(2026, 11, 20, tzinfo=UTC)
    uses = more.get("uses", [ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=more.get("ca", False), path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


NODE = x509.Name(
    [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, "system:node:w1"),
    ]
)


def test_a_certificate_is_what_was_asked_for() -> None:
    (ca, key), request = authority(), client_request(right(NAME).pem(), NAME)
    public = crafted.key("p256").public_key()

    def made(subject: x509.Name = NODE, signer: Any = key, of: Any = public, **more: Any) -> bytes:
        return certificate(subject, ca.subject, of, signer, **more).public_bytes(Encoding.PEM)

    pem = ca.public_bytes(Encoding.PEM)
    found = issued(made(), request, NAME, pem)
    assert (found.fingerprint, found.not_after) == (request.fingerprint, datetime(2026, 11, 27, tzinfo=UTC))
    assert certificate_facts(made()) == found
    masters = x509.Name([*NODE, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")])
    wrong = {
        "another key": made(of=crafted.key("p256", 1).public_key()),
        "not for system:node:w1": made(masters),
        "not of the cluster's CA": made(signer=authority()[1]),
        "more than a client": made(ca=True),
        "good for more": made(uses=[ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
        "not a certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for reason, bad in wrong.items():
        with pytest.raises(RefusedRequest, match=reason):
            issued(bad, request, NAME, pem)
