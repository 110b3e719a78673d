"""A run that is cut at any point leaves whole files, and the next run goes on from there."""

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from certs.errors import UnusableFolder
from certs.folder import Folder
from certs.keystore import Keystore
from certs.secret import Secret
from tests.unit.certs import samples

# Each kind of row, few enough to cut at every write; the whole table is killed in tests/system.
ROWS = tuple(row for row in samples.ROWS if row.name.startswith("provisioning/") or row.name in {"sa", "ca"})
CAS = ("ca", "provisioning/ca")
LEAVES = ("provisioning/server", "provisioning/pxe")
STEPS = 2 * len(ROWS)
FOLDERS = 2
PASSPHRASE = Secret(b"correct horse")


class PowerCut(BaseException):
    """The power went; nothing after it happens."""


class CutFolder(Folder):
    """A folder whose write number `step` is cut: before, after, or with half of the new file on disk."""

    def __init__(self, path: Path, *, step: int, how: str) -> None:
        super().__init__(path)
        self.left = step
        self.how = how

    def write(self, name: str, content: bytes | Secret) -> None:
        self.left -= 1
        if self.left >= 0:
            return super().write(name, content)
        if self.how == "after":
            super().write(name, content)
        if self.how == "half":
            raw = content.reveal() if isinstance(content, Secret) else content
            path = self.path / name
            path.parent.mkdir(exist_ok=True)
            path.with_name(f".{path.name}.new").write_bytes(raw[: len(raw) // 2])
        raise PowerCut


def _fsync_that_fails_at(step: int) -> Callable[[int], None]:
    real, left = os.fsync, [step]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    return fsync


def _assert_whole(folder: Path, before: dict[str, bytes]) -> None:
    """Assert that `folder` is complete, that it kept `before`, and that a further run has nothing to do."""
    assert samples.changed(before, samples.authorities(folder)) <= samples.authorities(folder).keys() - before
    assert set(samples.tree(folder)) == {
        *(f"{row.name}.key" for row in ROWS),
        *(f"{row.name}.crt" for row in ROWS if row.name != "sa"),
        "sa.pub",
    }
    assert samples.ensure(folder, wanted=ROWS).news == ()
    for name in LEAVES:
        issuer = samples.certificate(folder, "provisioning/ca")
        samples.certificate(folder, name).verify_directly_issued_by(issuer)


def test_the_steps_are_counted_right(tmp_path: Path) -> None:
    folder = CutFolder(tmp_path, step=STEPS, how="before")
    Keystore(folder).ensure(ROWS, samples.NOW)

    assert folder.left == 0


@pytest.mark.parametrize("how", ["before", "half", "after"])
@pytest.mark.parametrize("step", range(STEPS))
def test_a_cut_at_any_write_converges(tmp_path: Path, step: int, how: str) -> None:
    with pytest.raises(PowerCut):
        Keystore(CutFolder(tmp_path, step=step, how=how)).ensure(ROWS, samples.NOW)
    keys = {name: content for name, content in samples.tree(tmp_path).items() if not name.endswith(".new")}
    samples.ensure(tmp_path, wanted=ROWS)

    assert {name for name in keys if samples.tree(tmp_path)[name] != keys[name]} == set()
    _assert_whole(tmp_path, {name: keys[name] for name in keys if name in samples.authorities(tmp_path)})


@pytest.mark.parametrize("step", range(2 * STEPS + FOLDERS))
def test_a_disk_that_fails_at_any_moment_is_told_and_survived(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pki"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fsync_that_fails_at(step))
        with pytest.raises(UnusableFolder, match="No space left on device"):
            samples.ensure(folder, wanted=ROWS)
    before = samples.authorities(folder)

    assert not list(folder.rglob(".*.new"))
    samples.ensure(folder, wanted=ROWS)
    _assert_whole(folder, before)


@pytest.mark.parametrize("how", ["before", "half", "after"])
@pytest.mark.parametrize("step", range(len(LEAVES)))
def test_a_cut_renewal_leaves_working_pairs_and_goes_on(tmp_path: Path, step: int, how: str) -> None:
    samples.ensure(tmp_path, wanted=ROWS)
    keys = {name: content for name, content in samples.tree(tmp_path).items() if name.endswith(".key")}
    later = samples.NOW + timedelta(days=400)
    with pytest.raises(PowerCut):
        Keystore(CutFolder(tmp_path, step=step, how=how)).renew(ROWS, later)
    done = step + (how == "after")
    keyring = samples.ensure(tmp_path, now=later, wanted=ROWS)

    assert len(keyring.news) == len(LEAVES) - done
    assert {name: samples.tree(tmp_path)[name] for name in keys} == keys
    assert samples.ensure(tmp_path, now=later, wanted=ROWS).news == ()


@pytest.mark.parametrize("how", ["before", "half", "after"])
@pytest.mark.parametrize("step", range(len(CAS)))
def test_a_cut_while_keys_are_sealed_converges(
    tmp_path: Path, step: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certs.sealing.ROUNDS", 1000)
    samples.ensure(tmp_path, wanted=ROWS)
    certificates = {name: each for name, each in samples.tree(tmp_path).items() if not name.endswith(".key")}
    with pytest.raises(PowerCut):
        Keystore(CutFolder(tmp_path, step=step, how=how)).ensure(ROWS, samples.NOW, PASSPHRASE)
    samples.ensure(tmp_path, passphrase=PASSPHRASE, wanted=ROWS)

    assert samples.ensure(tmp_path, passphrase=PASSPHRASE, wanted=ROWS).news == ()
    assert all(b"ENCRYPTED" in (tmp_path / f"{name}.key").read_bytes() for name in CAS)
    assert {name: samples.tree(tmp_path)[name] for name in certificates} == certificates


def test_a_leftover_is_swept_even_if_its_row_is_gone(tmp_path: Path) -> None:
    samples.ensure(tmp_path, wanted=ROWS)
    (tmp_path / "provisioning" / ".old.key.new").write_bytes(b"half a key")
    samples.ensure(tmp_path, wanted=ROWS)

    assert not list(tmp_path.rglob("*.new"))


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    folder, victim = tmp_path / "pki", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"untouched")
    (folder / ".ca.key.new").symlink_to(victim)
    samples.ensure(folder, wanted=ROWS)

    assert victim.read_bytes() == b"untouched"
    assert not (folder / "ca.key").is_symlink()


def test_a_key_is_never_open_to_others_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    real = os.fsync

    def watch(descriptor: int) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.rglob(".*.key.new"))
        real(descriptor)

    before = os.umask(0)
    monkeypatch.setattr(os, "fsync", watch)
    samples.ensure(tmp_path, wanted=ROWS)
    os.umask(before)

    assert len(modes) == len(ROWS)
    assert set(modes) == {0o600}
