"""What stands in each certificate, asked of the parsed bytes."""

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from certs.errors import BadName
from certs.keystore import Keystore
from certs.wanted import Use, Wanted, WantedCa, WantedKeyPair, WantedLeaf, break_glass, rows, sans_in_order
from tests.unit.certs import samples

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
MEMBER = ["127.0.0.1", "::1", "localhost"]

# file: issuer, CN, O, usages, SANs
TABLE: dict[str, tuple[str, str, str | None, set[x509.ObjectIdentifier], set[str]]] = {
    "provisioning/server": (
        "provisioning/ca",
        "firstlight:web",
        None,
        {SERVER},
        {"10.77.0.1", "appliance.firstlight.internal"},
    ),
    "provisioning/pxe": ("provisioning/ca", "firstlight:pxe", None, {CLIENT}, set()),
    "etcd/server-m1": ("etcd/ca", "kube-etcd", None, {SERVER, CLIENT}, {"m1", "192.168.1.10", *MEMBER}),
    "etcd/server-m2": ("etcd/ca", "kube-etcd", None, {SERVER, CLIENT}, {"m2", "192.168.1.11", *MEMBER}),
    "etcd/peer-m1": ("etcd/ca", "kube-etcd-peer", None, {SERVER, CLIENT}, {"m1", "192.168.1.10", *MEMBER}),
    "etcd/peer-m2": ("etcd/ca", "kube-etcd-peer", None, {SERVER, CLIENT}, {"m2", "192.168.1.11", *MEMBER}),
    "etcd/healthcheck-client": ("etcd/ca", "kube-etcd-healthcheck-client", None, {CLIENT}, set()),
    "apiserver-etcd-client": ("etcd/ca", "kube-apiserver-etcd-client", None, {CLIENT}, set()),
    "apiserver": (
        "ca",
        "kube-apiserver",
        None,
        {SERVER},
        {
            "m1",
            "m2",
            "api.example.net",
            "192.168.1.10",
            "192.168.1.11",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "10.3.0.1",
            *MEMBER,
        },
    ),
    "apiserver-kubelet-client": ("ca", "kube-apiserver-kubelet-client", None, {CLIENT}, set()),
    "front-proxy-client": ("front-proxy-ca", "front-proxy-client", None, {CLIENT}, set()),
    "admin": ("ca", "kubernetes-admin", "kubeadm:cluster-admins", {CLIENT}, set()),
    "controller-manager": ("ca", "system:kube-controller-manager", None, {CLIENT}, set()),
    "scheduler": ("ca", "system:kube-scheduler", None, {CLIENT}, set()),
    "claims": ("ca", "firstlight:claims", None, {CLIENT}, set()),
    "status": ("ca", "firstlight:status", None, {CLIENT}, set()),
    "gate": ("ca", "firstlight:gate", None, {CLIENT}, set()),
}
AUTHORITIES = {
    "ca": ("kubernetes-ca", None),
    "etcd/ca": ("etcd-ca", None),
    "front-proxy-ca": ("kubernetes-front-proxy-ca", None),
    "kubelet-ca": ("kubernetes-kubelet-ca", None),
    "provisioning/ca": ("firstlight-provisioning-ca", "rack1"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "pki"
    samples.ensure(folder)
    return folder


def _subject(name: x509.Name) -> list[tuple[x509.ObjectIdentifier, str]]:
    return [(each.oid, str(each.value)) for each in name]


def _expected_subject(common_name: str, organization: str | None) -> list[tuple[x509.ObjectIdentifier, str]]:
    group = [(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return [*group, (NameOID.COMMON_NAME, common_name)]


def _key_usages(value: x509.KeyUsage) -> set[str]:
    names = {
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    }
    return {name for name in names if getattr(value, name)}


def test_the_table_has_these_files_and_no_other(folder: Path) -> None:
    certificates = {*TABLE, *AUTHORITIES}
    expected = {f"{name}.{end}" for name in certificates for end in ("crt", "key")}
    expected |= {f"{name}.{end}" for name in ("sa", "secrets-encryption") for end in ("key", "pub")}

    assert set(samples.tree(folder)) == expected


@pytest.mark.parametrize("name", TABLE)
def test_a_leaf_says_who_it_is(folder: Path, name: str) -> None:
    issuer, common_name, organization, _, sans = TABLE[name]
    found = samples.certificate(folder, name)

    assert _subject(found.subject) == _expected_subject(common_name, organization)
    assert found.issuer == samples.certificate(folder, issuer).subject
    found.verify_directly_issued_by(samples.certificate(folder, issuer))
    extensions = [each for each in found.extensions if each.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME]
    named = {str(general.value) for each in extensions for general in each.value}
    assert named == sans
    assert not any(each.critical for each in extensions)


@pytest.mark.parametrize("name", TABLE)
def test_addresses_are_addresses_and_come_before_names(folder: Path, name: str) -> None:
    kinds = [
        type(general)
        for each in samples.certificate(folder, name).extensions
        if isinstance(each.value, x509.SubjectAlternativeName)
        for general in each.value
    ]

    assert kinds == sorted(kinds, key=lambda kind: kind is x509.DNSName)
    assert set(kinds) <= {x509.IPAddress, x509.DNSName}


@pytest.mark.parametrize("name", TABLE)
def test_a_leaf_may_do_only_what_it_must(folder: Path, name: str) -> None:
    found = samples.certificate(folder, name).extensions
    basic = found.get_extension_for_class(x509.BasicConstraints)
    usage = found.get_extension_for_class(x509.KeyUsage)
    extended = found.get_extension_for_class(x509.ExtendedKeyUsage)

    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, False, None)
    assert (usage.critical, _key_usages(usage.value)) == (True, {"digital_signature"})
    assert (extended.critical, set(extended.value)) == (False, TABLE[name][3])


@pytest.mark.parametrize("name", TABLE)
def test_a_leaf_points_at_its_issuers_key(folder: Path, name: str) -> None:
    found = samples.certificate(folder, name)
    issuer = samples.certificate(folder, TABLE[name][0])
    own = found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    above = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    signer = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)

    assert own.value == x509.SubjectKeyIdentifier.from_public_key(found.public_key())
    assert above.value.key_identifier == signer.value.digest
    assert not own.critical
    assert not above.critical
    assert len(list(found.extensions)) == (6 if TABLE[name][4] else 5)


@pytest.mark.parametrize("name", AUTHORITIES)
def test_an_authority_signs_leaves_and_nothing_else(folder: Path, name: str) -> None:
    found = samples.certificate(folder, name)
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage)
    own = found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    above = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)

    assert _subject(found.subject) == _expected_subject(*AUTHORITIES[name])
    assert found.issuer == found.subject
    found.verify_directly_issued_by(found)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, _key_usages(usage.value)) == (True, {"key_cert_sign", "crl_sign"})
    assert above.value.key_identifier == own.value.digest
    assert len(list(found.extensions)) == 4


@pytest.mark.parametrize("name", [*TABLE, *AUTHORITIES])
def test_keys_are_p256_and_signatures_sha256(folder: Path, name: str) -> None:
    found = samples.certificate(folder, name)
    key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)

    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == found.public_key()
    assert isinstance(found.signature_hash_algorithm, hashes.SHA256)
    assert found.version is x509.Version.v3


@pytest.mark.parametrize("name", [*TABLE, *AUTHORITIES])
def test_lives_are_bounded_and_back_dated(folder: Path, name: str) -> None:
    found = samples.certificate(folder, name)
    back = timedelta(hours=48) if name.startswith("provisioning/") else timedelta(hours=1)
    life = found.not_valid_after_utc - found.not_valid_before_utc

    assert found.not_valid_before_utc == samples.NOW - back
    assert life == (timedelta(days=3650) if name in AUTHORITIES else timedelta(days=365))


def test_serial_numbers_are_long_random_and_unique(folder: Path) -> None:
    serials = [samples.certificate(folder, name).serial_number for name in (*TABLE, *AUTHORITIES)]

    assert len(set(serials)) == len(serials)
    assert all(0 < serial < 1 << 159 for serial in serials)  # RFC 5280 4.1.2.2: 20 octets at most
    assert min(serials).bit_length() > 64


def test_the_service_account_pair_belongs_together(folder: Path) -> None:
    private = serialization.load_pem_private_key((folder / "sa.key").read_bytes(), None)
    public = serialization.load_pem_public_key((folder / "sa.pub").read_bytes())

    assert private.public_key() == public
    assert isinstance(public, ec.EllipticCurvePublicKey)


def test_no_key_is_used_twice(folder: Path) -> None:
    keys = [content for name, content in samples.tree(folder).items() if name.endswith(".key")]

    assert len(set(keys)) == len(keys)


def test_nobody_is_in_system_masters_by_default(folder: Path) -> None:
    assert not [name for name, content in samples.tree(folder).items() if b"masters" in content]
    groups = {str(each.value) for name in TABLE for each in _groups(samples.certificate(folder, name))}
    assert groups == {"kubeadm:cluster-admins"}


def _groups(certificate: x509.Certificate) -> list[x509.NameAttribute[str | bytes]]:
    return list(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def test_the_break_glass_row_is_issued_only_when_asked(tmp_path: Path) -> None:
    keyring = Keystore(tmp_path).ensure((*samples.ROWS, break_glass()), samples.NOW)

    found = samples.certificate(tmp_path, "super-admin")
    assert _subject(found.subject) == _expected_subject("kubernetes-super-admin", "system:masters")
    assert "super-admin" in keyring.keys


def test_rows_are_the_same_for_names_in_any_order() -> None:
    turned = samples.NAMES.__class__(
        cluster="rack1",
        dns_domain="cluster.local",
        service_ip=samples.NAMES.service_ip,
        api_dns=(*reversed(samples.NAMES.api_dns), "M1"),
        api_ips=tuple(reversed(samples.NAMES.api_ips)),
        etcd_hosts=tuple(reversed(samples.NAMES.etcd_hosts)),
        appliance_dns=samples.NAMES.appliance_dns,
        appliance_ips=samples.NAMES.appliance_ips,
    )

    assert rows(turned) == samples.ROWS


def test_an_authority_comes_before_what_it_signs() -> None:
    seen: set[str] = set()
    for row in samples.ROWS:
        if isinstance(row, WantedLeaf):
            assert row.issuer in seen
        if isinstance(row, WantedCa):
            seen.add(row.name)
    names = [row.name for row in samples.ROWS]
    assert len(set(names)) == len(names)
    assert [row.name for row in samples.ROWS if isinstance(row, WantedKeyPair)] == [
        "sa",
        "secrets-encryption",
    ]


def test_sans_are_sorted_unique_and_told_apart() -> None:
    mixed = sans_in_order(("B.example.", "a.example", "10.0.0.9", "b.example"), (ip_address("10.0.0.2"),))

    assert mixed == ("10.0.0.2", "10.0.0.9", "a.example", "b.example")
    assert sans_in_order(mixed) == mixed


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (WantedCa(name="ca", common_name="x" * 65), "1 to 64 characters"),
        (WantedCa(name="ca", common_name=""), "1 to 64 characters"),
    ],
)
def test_a_subject_that_fits_no_certificate_is_refused(tmp_path: Path, row: Wanted, said: str) -> None:
    with pytest.raises(BadName, match=said):
        Keystore(tmp_path / "pki").ensure([row], samples.NOW)


def test_a_san_that_fits_no_certificate_is_refused(tmp_path: Path) -> None:
    row = WantedLeaf(
        name="x", issuer="ca", common_name="x", uses=frozenset({Use.SERVER}), sans=("schlüssel.example",)
    )

    with pytest.raises(BadName, match="schlüssel"):
        Keystore(tmp_path / "pki").ensure([WantedCa(name="ca", common_name="ca"), row], samples.NOW)
    assert samples.tree(tmp_path) == {}
