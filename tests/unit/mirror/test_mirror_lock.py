"""The lock says what every file is; a damaged or hostile one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import MirrorError, PreflightError, UsageError
from bootstrap.mirror import files, lock, pull, signature
from bootstrap.mirror.item import Digest
from bootstrap.mirror.lock import Entry, Lock

SUM = "6" * 64
ENTRY = Entry(
    path="kubernetes/v1/kubelet",
    key="kubernetes/kubelet/v1",
    url="https://x",
    sha256=SUM,
    size=7,
    fetched="t",
)
LOCK = Lock({ENTRY.path: ENTRY}, {"flatcar/flatcar/stable": "1.2.3"})


def test_what_is_written_is_read_back_and_the_same_each_time(tmp_path: Path) -> None:
    assert lock.read(tmp_path) == Lock()
    lock.write(tmp_path, LOCK)

    assert lock.read(tmp_path) == LOCK
    assert LOCK.to_bytes() == lock.read(tmp_path).to_bytes()
    assert lock.read(tmp_path).of(ENTRY.key) == (ENTRY,)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    good = LOCK.to_bytes()
    for at in range(len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 1
        (tmp_path / lock.NAME).write_bytes(bytes(bad))
        with pytest.raises(MirrorError, match=r"is damaged \(.*copy it anew, or remove it"):
            lock.read(tmp_path)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a/./b", ".partial/x"])
def test_a_lock_that_leads_out_of_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    values: dict[str, Any] = json.loads(LOCK.to_bytes())
    values.pop("sum")
    values["files"][0]["path"] = path
    (tmp_path / lock.NAME).write_text(json.dumps({**values, "sum": lock._sum(values)}))

    with pytest.raises(MirrorError, match="is no file of a mirror"):
        lock.read(tmp_path)
    with pytest.raises(MirrorError, match="leads out of the mirror's folder"):
        files.place(tmp_path, path)


def test_a_lock_of_another_format_is_refused(tmp_path: Path) -> None:
    values: dict[str, Any] = {"format": 2, "files": [], "channels": {}}
    (tmp_path / lock.NAME).write_text(json.dumps({**values, "sum": lock._sum(values)}))

    with pytest.raises(MirrorError, match="format 2 is not 1"):
        lock.read(tmp_path)


def test_one_pull_at_a_time(tmp_path: Path) -> None:
    with (
        lock.held(tmp_path),
        pytest.raises(UsageError, match="another mirror pull is at work"),
        lock.held(tmp_path),
    ):
        pass
    with lock.held(tmp_path):
        pass


def test_versions_are_compared_by_number() -> None:
    assert pull._numbers("4593.10.0") > pull._numbers("4593.9.9")
    assert pull._numbers("44.20260707.3.1") > pull._numbers("44.20260707.3.0")


def test_an_archive_gives_only_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive")

    with pytest.raises(MirrorError, match="has no file etcd; ask its maker"):
        files.take_out(tmp_path / "x.tar", "etcd", tmp_path / "etcd")
    assert not (tmp_path / "etcd").exists()
    assert not files.has(tmp_path / "etcd", Digest("sha256", SUM))


ARMOR = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n{}\n{}\n-----END PGP PUBLIC KEY BLOCK-----\n"


@pytest.mark.parametrize("head", ["", "Comment: a key\nVersion: 1\n"])
@pytest.mark.parametrize("body", ["mQEN", "mQEN\n=abcd", "mQ\nEN\n=abcd"])
def test_armored_keys_are_read_as_plain_ones(tmp_path: Path, head: str, body: str) -> None:
    (tmp_path / "keys").write_text("A key:\n" + ARMOR.format(head, body) * 2)

    assert signature.binary(tmp_path / "keys") == b"\x99\x01\x0d" * 2


@pytest.mark.parametrize("text", ["", "hello", ARMOR.format("", "!!!"), ARMOR.format("", "")])
def test_a_file_without_keys_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(PreflightError, match="cannot be read: No such file"):
        signature.binary(tmp_path / "keys")
    (tmp_path / "keys").write_text(text)
    with pytest.raises(PreflightError, match="holds no public key; put the file there"):
        signature.binary(tmp_path / "keys")
