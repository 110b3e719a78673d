"""A damaged or lost file is named with its remedy, nothing is written, and no text shows a key."""

import base64
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.errors import CertsError, DamagedFile, LostKey, UnusableFolder, WrongPassphrase
from certs.keystore import Keystore
from certs.pem import key_pem, new_key
from certs.secret import Secret
from tests.unit.certs import samples


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: _put(folder / name, content)


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _cut(name: str) -> Callable[[Path], None]:
    return lambda folder: _put(folder / name, (folder / name).read_bytes()[:100])


def _copy(source: str, name: str) -> Callable[[Path], None]:
    return lambda folder: _put(folder / name, (folder / source).read_bytes())


def _remove(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _foreign(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


P384 = _foreign(ec.generate_private_key(ec.SECP384R1()))
RSA = _foreign(rsa.generate_private_key(public_exponent=65537, key_size=2048))
OTHER = key_pem(new_key()).reveal()

# what happens to the folder: error, file named in it, a piece of the remedy
DAMAGE: dict[str, tuple[Callable[[Path], None], type[CertsError], str, str]] = {
    "CA certificate cut": (_cut("ca.crt"), DamagedFile, "ca.crt", "back from a backup"),
    "CA certificate empty": (_write("etcd/ca.crt", b""), DamagedFile, "etcd/ca.crt", "back from a backup"),
    "CA certificate is noise": (_write("ca.crt", bytes(range(256))), DamagedFile, "ca.crt", "backup"),
    "CA certificate is a leaf": (_copy("admin.crt", "ca.crt"), DamagedFile, "ca.crt", "of an authority"),
    "CA key cut": (_cut("ca.key"), DamagedFile, "ca.key", "backup"),
    "CA key empty": (_write("ca.key", b""), DamagedFile, "ca.key", "backup"),
    "CA key gone": (_remove("ca.key"), LostKey, "ca.crt", "put it back from a backup"),
    "CA key of another": (_copy("etcd/ca.key", "ca.key"), LostKey, "ca.crt", "put the pair back"),
    "CA certificate of another": (_copy("etcd/ca.crt", "ca.crt"), LostKey, "ca.crt", "put the pair back"),
    "CA gone, leaves stand": (_remove("ca.key", "ca.crt"), LostKey, "ca.key", "apiserver.crt was issued by"),
    "leaf key cut": (_cut("admin.key"), DamagedFile, "admin.key", "backup"),
    "leaf key RSA": (_write("admin.key", RSA), DamagedFile, "admin.key", "only ECDSA P-256"),
    "leaf key P-384": (_write("admin.key", P384), DamagedFile, "admin.key", "only ECDSA P-256"),
    "leaf key is a certificate": (_copy("admin.crt", "admin.key"), DamagedFile, "admin.key", "backup"),
    "leaf certificate cut": (_cut("etcd/peer-m1.crt"), DamagedFile, "etcd/peer-m1.crt", "remove it"),
    "leaf certificate is a key": (_write("admin.crt", OTHER), DamagedFile, "admin.crt", "no readable"),
    "sa key gone": (_remove("sa.key"), LostKey, "sa.pub", "put it back"),
    "sa key of another": (_write("sa.key", OTHER), LostKey, "sa.key", "put the pair back"),
    "sa key cut": (_cut("sa.key"), DamagedFile, "sa.key", "backup"),
}


def _secrets_of(folder: Path) -> set[str]:
    """Every way in which a key of `folder` would show in a text."""
    found: set[str] = set()
    for path in folder.rglob("*.key"):
        lines = [line for line in path.read_bytes().splitlines() if line and not line.startswith(b"-----")]
        found |= {line.decode("latin-1") for line in lines}
        for line in lines:
            found.add(base64.b64decode(line + b"====").hex())
    return {each for each in found if len(each) > 8}


def _full_text(error: BaseException) -> str:
    """The traceback as a debugger would print it, with every local variable of our own frames."""
    captured = traceback.TracebackException.from_exception(error, capture_locals=True)
    captured.stack = traceback.StackSummary.from_list(
        [frame for frame in captured.stack if "/certs/" in frame.filename and "/tests/" not in frame.filename]
    )
    return str(error) + "".join(captured.format())


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_with_its_remedy_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    damage, kind, file, remedy = DAMAGE[case]
    samples.ensure(tmp_path)
    secrets = _secrets_of(tmp_path)
    damage(tmp_path)
    before = samples.tree(tmp_path)

    with pytest.raises(kind) as caught:
        samples.ensure(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/{file}: ")
    assert remedy in str(caught.value)
    assert samples.tree(tmp_path) == before
    assert not [each for each in secrets if each in _full_text(caught.value)]


def test_the_canary_would_sing(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    assert len(_secrets_of(tmp_path)) > 2 * len(samples.ROWS)
    key = (tmp_path / "ca.key").read_bytes()

    assert [each for each in _secrets_of(tmp_path) if each in key.decode()]


def test_an_authority_whose_certificate_alone_is_gone_gets_it_back(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    (tmp_path / "etcd" / "ca.crt").unlink()
    keyring = samples.ensure(tmp_path)

    assert samples.changed(before, samples.tree(tmp_path)) == {"etcd/ca.crt"}
    assert [str(change) for change in keyring.news] == ["made etcd/ca: its key stood alone"]


def test_a_leaf_whose_key_is_gone_gets_a_new_pair(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    (tmp_path / "admin.key").unlink()
    keyring = samples.ensure(tmp_path)

    assert samples.changed(before, samples.tree(tmp_path)) == {"admin.key", "admin.crt"}
    assert [str(change) for change in keyring.news] == ["made admin: its key was missing"]


def test_a_certificate_of_another_key_is_issued_again(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    shutil.copy(tmp_path / "scheduler.crt", tmp_path / "admin.crt")
    keyring = samples.ensure(tmp_path)

    assert [str(change) for change in keyring.news] == ["re-issued admin: it did not belong to its key"]


def test_leaves_follow_an_authority_that_was_put_back(tmp_path: Path) -> None:
    samples.ensure(tmp_path / "old")
    samples.ensure(tmp_path / "pki")
    for end in ("crt", "key"):
        shutil.copy(tmp_path / "old" / f"front-proxy-ca.{end}", tmp_path / "pki" / f"front-proxy-ca.{end}")
    keyring = samples.ensure(tmp_path / "pki")

    assert [str(change) for change in keyring.news] == [
        "re-issued front-proxy-client: another authority had issued it"
    ]


def test_sa_pub_alone_gone_is_written_again(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    (tmp_path / "sa.pub").unlink()
    samples.ensure(tmp_path)

    assert samples.tree(tmp_path) == before


def test_renew_replaces_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    (tmp_path / "admin.crt").write_bytes(b"noise")
    Keystore(tmp_path).renew(samples.ROWS, samples.NOW, names=["admin"])

    assert samples.ensure(tmp_path).news == ()


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("")

    with pytest.raises(UnusableFolder, match=r"pki: cannot use it: "):
        samples.ensure(tmp_path / "pki")


def test_a_key_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.key").mkdir()

    with pytest.raises(UnusableFolder, match=r"ca\.key: cannot read it: Is a directory"):
        samples.ensure(tmp_path)


@pytest.mark.parametrize("passphrase", [None, Secret(b"canary-wrong"), Secret(b"")])
def test_no_text_shows_a_key_or_a_passphrase(
    tmp_path: Path, passphrase: Secret | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certs.sealing.ROUNDS", 1000)
    samples.ensure(tmp_path, passphrase=Secret(b"canary-right"))

    with pytest.raises(WrongPassphrase) as caught:
        Keystore(tmp_path).renew(samples.ROWS, samples.NOW, passphrase)
    text = _full_text(caught.value)
    assert "canary" not in text
    assert not [each for each in _secrets_of(tmp_path) if each in text]
