"""A tree of many machines: one change is written alone, and a run that is cut off is finished by the next."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootstrap import disk, index
from bootstrap.disk import finish_bundle, read_bundle, write_bundle
from bootstrap.model import Cluster
from bootstrap.render.bundle import File, Rendered, render_bundle
from bootstrap.sums import Sums
from tests import samples

MACHINES = 60


def rack(*, changed: int = -1, count: int = MACHINES) -> Rendered:
    """Return the documents of a rack in which the machine with the number `changed` has another MAC address."""
    sample = samples.cluster("lab")
    like = sample.machines[0].model_dump(mode="json", by_alias=True, exclude_none=True) | {"power": None}
    like.pop("address", None)
    machines = [
        like | {"name": f"n{n}", "mac": f"52:54:{'01' if n == changed else '00'}:00:00:{n:02x}"}
        for n in range(count)
    ]
    values = sample.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"lab"})
    cluster = Cluster.model_validate(values | {"machines": machines})
    return render_bundle(cluster, samples.KEYRING)


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring nothing to the disk: what is tested is the order of things, and other tests wait for the same disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(disk, "_sync_all", lambda _: None)
    monkeypatch.setattr(disk, "_MANY_FILES", MACHINES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", rack())
    return tmp_path / "bundle"


def is_whole(folder: Path, bundle: Rendered) -> bool:
    """Return whether the tree is that of `bundle`, sums and all, and nothing is left beside it."""
    found = read_bundle(folder)
    sums = Sums(folder)
    checked = [sums.check(path, file.content) for path, file in found.items()]
    left = [path.name for path in folder.parent.iterdir()]
    return found == dict(bundle) and len(checked) == len(bundle) and left == [folder.name]


def inodes(folder: Path) -> dict[str, int]:
    return {path: (folder / path).stat().st_ino for path in read_bundle(folder)}


def test_one_changed_machine_is_written_alone(folder: Path) -> None:
    before = inodes(folder)

    assert write_bundle(folder, rack(changed=7))

    assert is_whole(folder, rack(changed=7))
    after = inodes(folder)
    written = {path for path in after if after[path] != before[path]}
    shared = {"appliance/cluster.json", "pxe/dnsmasq.conf"}
    assert written - shared == {"machines/n7/installed.ign", "machines/n7/live.ign"}


def test_only_the_documents_of_changed_machines_are_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    bundle, real = rack(changed=7), Rendered.of_machine

    def of_machine(self: Rendered, name: str) -> dict[str, File]:
        made.append(name)
        return real(self, name)

    monkeypatch.setattr(Rendered, "of_machine", of_machine)

    write_bundle(folder, bundle)

    assert made == ["n7"]


def test_the_same_rack_again_changes_nothing(folder: Path) -> None:
    before = inodes(folder)

    assert not write_bundle(folder, rack())
    assert inodes(folder) == before


def test_machines_come_and_go(folder: Path) -> None:
    assert write_bundle(folder, rack(count=MACHINES - 2))
    assert is_whole(folder, rack(count=MACHINES - 2))
    assert not (folder / f"machines/n{MACHINES - 1}").exists()

    assert write_bundle(folder, rack())
    assert is_whole(folder, rack())
    assert not write_bundle(folder, rack())


def test_many_changes_at_once_make_a_new_tree(folder: Path) -> None:
    before = folder.stat().st_ino

    assert write_bundle(folder, rack(count=MACHINES // 2))

    assert is_whole(folder, rack(count=MACHINES // 2))
    assert folder.stat().st_ino != before


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))


def drop(path: Path) -> None:
    path.unlink()


def open_up(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.parametrize("harm", [spoil, drop, open_up])
@pytest.mark.parametrize("path", ["machines/n3/live.ign", "web/nginx.conf", "SHA256SUMS", "INPUTS.json"])
def test_what_somebody_changed_in_the_tree_is_put_right(
    folder: Path, harm: Callable[[Path], None], path: str
) -> None:
    harm(folder / path)

    write_bundle(folder, rack())

    assert is_whole(folder, rack())


def test_documents_of_another_program_are_all_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = inodes(folder)
    monkeypatch.setattr(index, "program", lambda: "a later version")

    assert write_bundle(folder, rack())
    assert not set(inodes(folder).values()) & set(before.values())


def test_a_document_that_rotted_on_the_disk_is_made_anew_once_it_was_found(folder: Path) -> None:
    path = folder / "machines/n3/live.ign"
    times = path.stat()
    spoil(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(Exception, match=r"n3/live\.ign is damaged"):
        Sums(folder).read("machines/n3/live.ign")

    assert write_bundle(folder, rack())
    assert is_whole(folder, rack())


class Cut(BaseException):
    """The power is gone."""


@contextmanager
def cut_at(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Cut the power at the sync with the number `count`; the list tells whether it was reached."""
    calls, real, reached = iter(range(count)), os.fsync, [False]

    def fsync(descriptor: int) -> None:
        if reached[0] or next(calls, None) is None:
            reached[0] = True
            raise Cut
        real(descriptor)

    def rmtree(path: Path, *, ignore_errors: bool) -> None:
        if not reached[0]:  # nobody cleans up after a power cut
            shutil_rmtree(path, ignore_errors=ignore_errors)

    shutil_rmtree = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(shutil, "rmtree", rmtree)
        yield reached


def test_a_change_that_is_cut_off_anywhere_leaves_the_old_tree_or_becomes_the_new_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, ends = dict(rack()), rack(changed=7), set[str]()
    changed = dict(new)
    for count in range(100):
        place = tmp_path / f"cut{count}" / "bundle"
        shutil.copytree(folder, place, copy_function=os.link)
        with cut_at(count, monkeypatch) as reached:
            try:
                write_bundle(place, new)
            except Cut:
                assert reached[0]
        finish_bundle(place)
        found = read_bundle(place)
        assert found in (old, changed), count
        Sums(place).read("machines/n7/live.ign")
        ends.add("new" if found == changed else "old")
        if not reached[0]:
            break
    assert ends == {"old", "new"}
    assert count > 10
    assert not write_bundle(place, new)


def test_a_filesystem_that_cannot_bring_the_tree_to_the_disk_keeps_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "_sync_all", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(folder, rack(count=MACHINES - 20))

    assert is_whole(folder, rack())
