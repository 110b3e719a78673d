"""One flipped bit in a boot loader: the package's is refused, the one that TFTP sends is put right (promise S-13)."""

import hashlib
import logging
from functools import partial
from pathlib import Path

import pytest

from bootstrap import loaders
from bootstrap.errors import PreflightError
from bootstrap.model.appliance import Loaders
from tests.tier import dice
from tests.unit.hostile.damage import flip, flipped

FLIPS = 40
CONTENT = b"a loader " * 400


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "ipxe"
    folder.mkdir()
    for name in ("undionly.kpxe", "snponly.efi"):
        (folder / name).write_bytes(CONTENT + name.encode())
    lines = [
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  {str(path).lstrip('/')}\n"
        for path in folder.iterdir()
    ]
    monkeypatch.setattr(loaders, "PACKAGED", tmp_path / "ipxe.md5sums")
    (tmp_path / "ipxe.md5sums").write_text("".join(lines))
    return folder


def place(root: Path, debian: Path) -> None:
    loaders.place(root, loaders.sources("tftp", Loaders(), Path("/nowhere"), debian))


def test_a_loader_that_differs_from_its_package_is_refused_and_named(tmp_path: Path, debian: Path) -> None:
    place(tmp_path / "tftp", debian)
    random = dice("package")
    for _ in range(FLIPS):
        with (
            flipped(debian / "snponly.efi", random),
            pytest.raises(
                PreflightError, match=r"snponly\.efi, is damaged: .*apt-get install --reinstall ipxe"
            ),
        ):
            place(tmp_path / "tftp", debian)
    place(tmp_path / "tftp", debian)


def test_a_loader_that_dpkg_does_not_know_is_taken_as_it_is(tmp_path: Path, debian: Path) -> None:
    (tmp_path / "ipxe.md5sums").unlink()
    flip(debian / "snponly.efi", 9)

    place(tmp_path / "tftp", debian)


def test_a_loader_damaged_in_its_place_is_put_right_and_named(
    tmp_path: Path, debian: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, random = tmp_path / "tftp", dice("loader")
    place(root, debian)
    guard = loaders.Guard(root, partial(logging.getLogger("pxe").error, "%s"))
    guard.look()
    assert caplog.text == ""
    for _ in range(FLIPS):
        caplog.clear()
        flip(root / "undionly.kpxe", random.randrange(8 * len(CONTENT)))
        with caplog.at_level(logging.ERROR, "pxe"):
            guard.look()
        assert (root / "undionly.kpxe").read_bytes() == CONTENT + b"undionly.kpxe"
        assert f"the loader {root / 'undionly.kpxe'} was damaged or changed: written anew" in caplog.text


def test_a_loader_that_vanished_comes_back(tmp_path: Path, debian: Path) -> None:
    root = tmp_path / "tftp"
    place(root, debian)
    guard = loaders.Guard(root, partial(logging.getLogger("pxe").error, "%s"))
    (root / "snponly.efi").unlink()

    guard.look()

    assert (root / "snponly.efi").read_bytes() == CONTENT + b"snponly.efi"


def test_what_is_put_among_the_loaders_is_removed_and_named(
    tmp_path: Path, debian: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "tftp"
    place(root, debian)
    guard = loaders.Guard(root, partial(logging.getLogger("pxe").error, "%s"))
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").mkdir()
    (root / "folder" / "file").write_text("x")
    (root / "snponly.efi").unlink()
    (root / "snponly.efi").symlink_to(tmp_path / "secret")

    guard.look()

    assert sorted(path.name for path in root.iterdir()) == ["snponly.efi", "undionly.kpxe"]
    assert (root / "snponly.efi").read_bytes() == CONTENT + b"snponly.efi"
    assert not (root / "snponly.efi").is_symlink()
    assert (tmp_path / "secret").read_text() == "secret"
    assert "link' was put among the loaders: removed" in caplog.text
