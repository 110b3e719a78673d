"""Who makes the first binding: minutes to live, in memory only."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.errors import WrongPassphrase
from certs.keystore import Keystore
from certs.pem import key_from
from certs.secret import Secret
from certs.wanted import first_binder
from tests.unit.certs import samples


def test_it_lives_for_minutes_and_leaves_no_trace(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    pem, key = Keystore(tmp_path).brief(first_binder(), samples.ROWS, samples.NOW)

    found = x509.load_pem_x509_certificate(pem)
    assert found.subject.rfc4514_string() == "CN=firstlight:first-binder,O=system:masters"
    assert found.not_valid_after_utc - samples.NOW == timedelta(minutes=15)
    assert samples.NOW - found.not_valid_before_utc == timedelta(minutes=5)
    assert key_from(key, None, where="key").public_key() == found.public_key()
    found.verify_directly_issued_by(samples.certificate(tmp_path, "ca"))
    assert samples.tree(tmp_path) == before


def test_it_is_another_each_time(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    store = Keystore(tmp_path)

    one, other = (store.brief(first_binder(), samples.ROWS, samples.NOW) for _ in range(2))
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_a_sealed_authority_wants_its_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certs.sealing.ROUNDS", 1000)
    samples.ensure(tmp_path, passphrase=Secret(b"right"))

    with pytest.raises(WrongPassphrase, match=r"ca\.crt: its key is encrypted; give the passphrase"):
        Keystore(tmp_path).brief(first_binder(), samples.ROWS, samples.NOW)
    assert Keystore(tmp_path).brief(first_binder(), samples.ROWS, samples.NOW, Secret(b"right"))


def test_it_is_no_row_of_the_table() -> None:
    assert first_binder() not in samples.ROWS
