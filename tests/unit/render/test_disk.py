"""Files and trees on disk: the old one or the new one, whatever fails in between."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap import disk
from bootstrap.disk import read_bundle, write_bundle, write_file
from bootstrap.errors import UsageError
from bootstrap.render.bundle import File

OLD = {"web/a": File(b"old", 0o644), "web/b": File(b"goes away", 0o644)}
NEW = {"machines/w1/x": File(b"x", 0o755), "web/a": File(b"new", 0o600)}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"1", 0o640)

    assert (tmp_path / "a").read_bytes() == b"1"
    assert mode(tmp_path / "a") == 0o640


def test_the_umask_has_no_say(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_file(tmp_path / "a", b"1", 0o644)
    finally:
        os.umask(before)

    assert mode(tmp_path / "a") == 0o644


def test_the_mode_holds_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    chmod = os.fchmod

    def watch(descriptor: int, wanted: int) -> None:
        seen.append((os.fstat(descriptor).st_size, stat.S_IMODE(os.fstat(descriptor).st_mode)))
        chmod(descriptor, wanted)

    monkeypatch.setattr(os, "fchmod", watch)
    write_file(tmp_path / "a", b"secret", 0o600)

    assert seen == [(0, 0o600)]


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "target")

    write_file(tmp_path / "a", b"new")

    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "a").is_symlink()


def failing(*_args: Any, **_kwargs: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["fsync", "fchmod", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(Path if call == "replace" else os, call, failing)

    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a", b"new")

    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_tree_is_written_whole(tmp_path: Path) -> None:
    assert write_bundle(tmp_path / "bundle", NEW) is True

    assert read_bundle(tmp_path / "bundle") == NEW
    assert mode(tmp_path / "bundle") == 0o700
    assert mode(tmp_path / "bundle/machines/w1") == 0o700
    assert names(tmp_path) == ["bundle"]


def test_the_same_tree_again_writes_nothing(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", NEW)
    before = (tmp_path / "bundle").stat().st_ino

    assert write_bundle(tmp_path / "bundle", NEW) is False
    assert (tmp_path / "bundle").stat().st_ino == before


def test_a_new_tree_replaces_the_old_one_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", OLD)

    assert write_bundle(tmp_path / "bundle", NEW) is True
    assert read_bundle(tmp_path / "bundle") == NEW
    assert names(tmp_path) == ["bundle"]


def no_exchange(_one: Path, _other: Path) -> bool:
    return False


def test_a_filesystem_that_cannot_swap_names_gets_the_tree_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_exchange", no_exchange)
    write_bundle(tmp_path / "bundle", OLD)
    write_bundle(tmp_path / "bundle", NEW)

    assert read_bundle(tmp_path / "bundle") == NEW
    assert names(tmp_path) == ["bundle"]


def breaking_at(count: int, real: Callable[[int], None]) -> Callable[[int], None]:
    calls = iter(range(count))

    def fsync(descriptor: int) -> None:
        if next(calls, None) is None:
            failing()
        real(descriptor)

    return fsync


@pytest.mark.parametrize("count", range(6))
def test_a_write_that_fails_anywhere_leaves_the_old_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    write_bundle(tmp_path / "bundle", OLD)
    monkeypatch.setattr(os, "fsync", breaking_at(count, os.fsync))

    with pytest.raises(OSError, match="No space left"):
        write_bundle(tmp_path / "bundle", NEW)

    assert read_bundle(tmp_path / "bundle") == OLD
    assert names(tmp_path) == ["bundle"]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")

    with pytest.raises(UsageError, match=r"thesis\.tex"):
        write_bundle(home, NEW)

    assert names(home) == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    with pytest.raises(UsageError, match="not a folder"):
        write_bundle(tmp_path / "out", NEW)

    assert (tmp_path / "out").read_text() == "mine"


def test_the_parents_of_a_new_folder_are_made(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a/b/bundle", NEW)

    assert read_bundle(tmp_path / "a/b/bundle") == NEW


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_bundle(tmp_path / "nothing") == {}
