"""Certificates of kubelets on control-plane hosts: for their own key and name alone, and when another one is due."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.errors import RefusedRequest
from certs.keyring import Keyring
from certs.node import node_certificate, node_certificate_problem
from certs.requests import certificate_facts, client_request
from tests.unit.certs import crafted, samples
from tests.unit.certs.samples import NOW

LIFE = timedelta(days=7)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return samples.ensure(tmp_path_factory.mktemp("keys"))


def made(keyring: Keyring, name: str = "m1", life: timedelta = LIFE) -> bytes:
    return node_certificate(keyring, crafted.right(name).pem(), name, life=life, now=NOW)


def problem(keyring: Keyring, pem: bytes, name: str = "m1", later: timedelta = timedelta(0)) -> str:
    return node_certificate_problem(pem, name, keyring.certificates["kubelet-ca"], NOW + later)


def test_a_certificate_says_exactly_who_the_node_is(keyring: Keyring) -> None:
    found = x509.load_pem_x509_certificate(made(keyring))

    assert found.subject.rfc4514_string() == "CN=system:node:m1,O=system:nodes"
    assert found.issuer.rfc4514_string() == "CN=kubernetes-kubelet-ca"
    uses = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not [one for one in found.extensions if isinstance(one.value, x509.SubjectAlternativeName)]
    request = client_request(crafted.right("m1").pem(), "m1")
    assert certificate_facts(made(keyring)).fingerprint == request.fingerprint
    assert found.not_valid_after_utc == NOW + LIFE
    assert found.not_valid_before_utc == NOW - timedelta(hours=1)


def test_the_shortest_life_is_still_to_come(keyring: Keyring) -> None:
    """It is back-dated by an hour, which is also the shortest that the configuration may say."""
    hour = timedelta(hours=1)
    assert certificate_facts(made(keyring, life=hour)).not_after == NOW + hour


@pytest.mark.parametrize(
    "request_",
    [
        crafted.right("m2").pem(),
        crafted.right("m1", rdns=(((crafted.O, crafted.UTF8, b"system:masters"),),)).pem(),
        b"nonsense",
        b"",
    ],
)
def test_a_request_that_is_not_exactly_right_gets_none(keyring: Keyring, request_: bytes) -> None:
    with pytest.raises(RefusedRequest):
        node_certificate(keyring, request_, "m1", life=LIFE, now=NOW)


def test_a_good_certificate_is_left_alone(keyring: Keyring) -> None:
    assert problem(keyring, made(keyring)) == ""
    assert problem(keyring, made(keyring), later=timedelta(days=6)) == ""


def test_another_is_due_when_there_is_none_or_it_is_another_s_or_has_ended(
    keyring: Keyring, tmp_path: Path
) -> None:
    stranger = made(samples.ensure(tmp_path))
    pem = made(keyring)

    assert problem(keyring, b"") == "it has none"
    assert problem(keyring, b"nonsense").startswith("what it has does not fit: ")
    assert (
        problem(keyring, pem, "m2") == "what it has does not fit: the certificate is not for system:node:m2"
    )
    assert problem(keyring, stranger).startswith("what it has does not fit: the certificate is not of")
    assert problem(keyring, pem, later=LIFE) == "what it has ended at 2026-11-27 12:00 UTC"
    late = problem(keyring, pem, later=timedelta(days=6, hours=12))
    assert late == "what it has ends at 2026-11-27 12:00 UTC, and was not renewed"
