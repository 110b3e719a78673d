"""Authorities' keys are encrypted when a passphrase is given; the others are not."""

import base64
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from certs.errors import WrongPassphrase
from certs.keyring import Did
from certs.keystore import Keystore
from certs.pem import is_encrypted, key_from, key_pem, new_key
from certs.sealing import ROUNDS
from certs.secret import Secret
from tests.unit.certs import samples

RIGHT, WRONG = Secret("correct horse ünï".encode()), Secret(b"battery staple")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certs.sealing.ROUNDS", 1000)


def _sealed(folder: Path) -> set[str]:
    return {name for name, content in samples.tree(folder).items() if b"ENCRYPTED" in content}


def test_only_the_authorities_that_stay_here_are_sealed(tmp_path: Path) -> None:
    keyring = samples.ensure(tmp_path, passphrase=RIGHT)

    assert _sealed(tmp_path) == {f"{name}.key" for name in samples.KEPT_CAS}
    assert not any(is_encrypted(key) for key in keyring.keys.values())
    assert samples.ensure(tmp_path, passphrase=RIGHT).news == ()


def test_a_sealed_store_needs_no_passphrase_when_nothing_is_signed(tmp_path: Path) -> None:
    first = samples.ensure(tmp_path, passphrase=RIGHT)
    second = samples.ensure(tmp_path)

    assert second.news == ()
    assert second.public == first.public


def test_signing_without_the_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    samples.ensure(tmp_path, passphrase=RIGHT)
    before = samples.tree(tmp_path)

    with pytest.raises(WrongPassphrase, match=r"ca\.crt: its key is encrypted; give the passphrase to issue"):
        samples.ensure(tmp_path, now=samples.NOW + timedelta(days=300))
    assert samples.tree(tmp_path) == before


def test_a_wrong_passphrase_is_told_even_when_nothing_is_signed(tmp_path: Path) -> None:
    samples.ensure(tmp_path, passphrase=RIGHT)
    before = samples.tree(tmp_path)

    with pytest.raises(WrongPassphrase, match=r"ca\.key: the key does not open: the passphrase is wrong"):
        samples.ensure(tmp_path, passphrase=WRONG)
    assert samples.tree(tmp_path) == before


def test_a_passphrase_that_comes_later_seals_the_same_keys(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    keyring = samples.ensure(tmp_path, passphrase=RIGHT)

    assert samples.changed(before, samples.tree(tmp_path)) == {f"{name}.key" for name in samples.KEPT_CAS}
    assert {change.did for change in keyring.news} == {Did.SEALED}
    for name in samples.KEPT_CAS:
        key = key_from(Secret((tmp_path / f"{name}.key").read_bytes()), RIGHT, where=name)
        assert key.public_key() == samples.certificate(tmp_path, name).public_key()
        assert (tmp_path / f"{name}.key").stat().st_mode & 0o777 == 0o600


def test_renew_works_with_the_passphrase_when_everything_is_expired(tmp_path: Path) -> None:
    samples.ensure(tmp_path, passphrase=RIGHT)
    keyring = Keystore(tmp_path).renew(samples.ROWS, samples.NOW + timedelta(days=1000), RIGHT)

    assert len(keyring.news) == len(samples.LEAVES)


def test_a_sealed_authority_whose_certificate_is_gone_needs_the_passphrase(tmp_path: Path) -> None:
    samples.ensure(tmp_path, passphrase=RIGHT)
    (tmp_path / "ca.crt").unlink()

    with pytest.raises(WrongPassphrase, match=r"ca\.key: the key is encrypted; give the passphrase"):
        samples.ensure(tmp_path)
    assert [str(change) for change in samples.ensure(tmp_path, passphrase=RIGHT).news] == [
        "made ca: its key stood alone"
    ]


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongPassphrase, match="the passphrase is empty"):
        samples.ensure(tmp_path / "pki", passphrase=Secret(b""))
    assert not list((tmp_path / "pki").glob("*"))


def test_the_same_key_is_sealed_differently_each_time() -> None:
    key = new_key()

    assert key_pem(key, RIGHT) != key_pem(key, RIGHT)


def test_guessing_a_passphrase_costs_the_full_number_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certs.sealing.ROUNDS", ROUNDS)
    key = new_key()
    sealed = key_pem(key, RIGHT)
    der = base64.b64decode(b"".join(sealed.reveal().splitlines()[1:-1]))

    assert ROUNDS >= 600_000
    assert b"\x02\x03" + ROUNDS.to_bytes(3) in der
    opened = serialization.load_pem_private_key(sealed.reveal(), RIGHT.reveal())
    assert opened.public_key() == key.public_key()
    with pytest.raises(ValueError, match="password"):
        serialization.load_pem_private_key(sealed.reveal(), WRONG.reveal())
