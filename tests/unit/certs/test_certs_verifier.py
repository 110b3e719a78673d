"""The x509 path validator of the cryptography library, which follows webpki, takes every leaf."""

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from certs.wanted import Use
from tests.unit.certs import samples

SERVERS = [(row.name, san) for row in samples.LEAVES if Use.SERVER in row.uses for san in row.sans]
CLIENTS = [row.name for row in samples.LEAVES if Use.CLIENT in row.uses]
SERVER_ONLY = [row.name for row in samples.LEAVES if row.uses == {Use.SERVER}]
CLIENT_ONLY = [row.name for row in samples.LEAVES if row.uses == {Use.CLIENT}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verifier") / "pki"
    samples.ensure(folder)
    return folder


def _builder(folder: Path, authority: str, *, days: int = 0) -> PolicyBuilder:
    store = Store([samples.certificate(folder, authority)])
    return PolicyBuilder().store(store).time(samples.NOW + timedelta(days=days))


def _subject(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _verify_server(folder: Path, leaf: str, name: str, *, days: int = 0, authority: str = "") -> None:
    builder = _builder(folder, authority or samples.leaf(leaf).issuer, days=days)
    subject = _subject(name)
    assert isinstance(subject, x509.IPAddress | x509.DNSName)
    builder.build_server_verifier(subject).verify(samples.certificate(folder, leaf), [])


def _verify_client(folder: Path, leaf: str, *, days: int = 0, authority: str = "") -> None:
    builder = _builder(folder, authority or samples.leaf(leaf).issuer, days=days)
    # Kubernetes' client certificates name a user, no host: webpki alone would ask for a SAN.
    leaf_policy = ExtensionPolicy.webpki_defaults_ee().may_be_present(
        x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
    )
    policy = {"ca_policy": ExtensionPolicy.webpki_defaults_ca(), "ee_policy": leaf_policy}
    builder.extension_policies(**policy).build_client_verifier().verify(samples.certificate(folder, leaf), [])


@pytest.mark.parametrize(("leaf", "name"), SERVERS)
def test_servers_pass_for_each_name(folder: Path, leaf: str, name: str) -> None:
    _verify_server(folder, leaf, name)


@pytest.mark.parametrize("leaf", CLIENTS)
def test_clients_pass(folder: Path, leaf: str) -> None:
    _verify_client(folder, leaf)


@pytest.mark.parametrize("leaf", SERVER_ONLY)
def test_servers_are_no_clients(folder: Path, leaf: str) -> None:
    with pytest.raises(VerificationError, match="EKU"):
        _verify_client(folder, leaf)


@pytest.mark.parametrize("leaf", CLIENT_ONLY)
def test_clients_are_no_servers(folder: Path, leaf: str) -> None:
    with pytest.raises(VerificationError):
        _verify_server(folder, leaf, "localhost")


@pytest.mark.parametrize("leaf", [row.name for row in samples.LEAVES])
def test_every_other_authority_refuses(folder: Path, leaf: str) -> None:
    row = samples.leaf(leaf)
    for authority in samples.CAS:
        if authority == row.issuer:
            continue
        if Use.CLIENT in row.uses:
            with pytest.raises(VerificationError, match="candidates exhausted"):
                _verify_client(folder, leaf, authority=authority)
        if Use.SERVER in row.uses:
            with pytest.raises(VerificationError, match="candidates exhausted"):
                _verify_server(folder, leaf, row.sans[0], authority=authority)


@pytest.mark.parametrize("days", [-3, 366])
def test_the_validator_minds_the_clock(folder: Path, days: int) -> None:
    for leaf in CLIENTS:
        with pytest.raises(VerificationError, match="not valid at validation time"):
            _verify_client(folder, leaf, days=days)


def test_a_machine_whose_clock_is_two_days_behind_trusts_the_appliance(folder: Path) -> None:
    _verify_server(folder, "provisioning/server", "10.77.0.1", days=-2)
