"""Where web finds the cluster, and what of the key folder it reads."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootstrap.errors import ApiRefused
from bootstrap.keys import ensure_keys
from bootstrap.kubernetes.api import Api
from tests.unit.web.fakes import cluster
from web.credentials import FILES, Credentials, servers_of

RACK = cluster(hosts=3)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    ensure_keys(RACK, tmp_path, datetime.now(UTC))
    return tmp_path / "pki"


def test_no_private_key_of_an_authority_is_among_what_is_read() -> None:
    assert {name for name in FILES if name.endswith(".key")} == {"claims.key", "gate.key", "status.key"}


def test_api_servers_are_asked_by_address() -> None:
    assert servers_of(RACK) == tuple(f"https://10.77.0.1{number}:6443" for number in (1, 2, 3))


def test_it_connects_with_three_identities(pki: Path) -> None:
    found = Credentials(pki)(RACK)

    assert found is not None
    assert isinstance(found.api, Api)
    assert isinstance(found.watching, Api)
    assert found.authority == (pki / "ca.crt").read_bytes()
    assert found.kubelet_authority == (pki / "kubelet-ca.crt").read_bytes()
    assert found.api._access.certificate == pki / "claims.crt"
    assert found.watching._access.key == pki / "status.key"
    assert isinstance(found.gate, Api)
    assert found.gate._access.certificate == pki / "gate.crt"


def test_it_needs_no_key_of_an_authority(pki: Path) -> None:
    for file in pki.rglob("*.key"):
        if file.name not in FILES:
            file.unlink()

    assert Credentials(pki)(RACK) is not None


def test_without_hosts_or_files_there_is_nowhere_to_go(pki: Path) -> None:
    connect = Credentials(pki)
    assert connect(cluster()) is None
    (pki / "status.key").unlink()
    assert connect(RACK) is None


def test_a_renewed_certificate_is_taken_up_and_one_that_stayed_is_kept(pki: Path) -> None:
    connect = Credentials(pki)
    first = connect(RACK)
    assert connect(RACK) is first
    os.utime(pki / "claims.crt", ns=(1, 1))

    assert connect(RACK) is not first


def test_files_that_cannot_be_used_are_refused_in_words(pki: Path) -> None:
    (pki / "claims.key").write_text("rotten")
    found = Credentials(pki)(RACK)
    assert found is not None

    with pytest.raises(ApiRefused, match=r"claims\.crt"):
        found.api.signing_request("x")


def test_credentials_with_relative_paths_could_not_be_used(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pki.parent)

    found = Credentials(Path("pki"))(RACK)

    assert found is not None
    assert isinstance(found.watching, Api)
    assert found.watching._client("https://127.0.0.1:1") is not None
