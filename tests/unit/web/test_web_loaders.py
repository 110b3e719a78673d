"""The loaders for UEFI HTTP boot follow the configuration and their files, and are as they were placed."""

import hashlib
import logging
from pathlib import Path

import pytest

from bootstrap.model.appliance import Loader, Loaders
from web.loaders import HttpLoaders


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    folder = tmp_path / "ipxe"
    folder.mkdir()
    (folder / "snponly.efi").write_bytes(b"efi loader")
    return folder


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    return tmp_path / "run" / "loader"


@pytest.fixture
def placed(tmp_path: Path, debian: Path, sent: Path) -> HttpLoaders:
    made = HttpLoaders(tmp_path / "cache", sent, debian)
    made.look(Loaders())
    return made


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "web.loaders")


def test_what_debian_has_is_sent_and_what_it_lacks_is_said(
    tmp_path: Path, debian: Path, sent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    HttpLoaders(tmp_path / "cache", sent, debian).look(Loaders())

    assert [path.name for path in sent.iterdir()] == ["ipxe-x86_64.efi"]
    assert "no loader for http-arm64 machines" in caplog.text


def test_one_flipped_bit_is_put_right_and_named(placed: HttpLoaders, sent: Path) -> None:
    (sent / "ipxe-x86_64.efi").write_bytes(b"efi loadez")

    (named,) = placed.look(Loaders())

    assert (sent / "ipxe-x86_64.efi").read_bytes() == b"efi loader"
    assert named.endswith("ipxe-x86_64.efi was damaged or changed: written anew")
    assert placed.look(Loaders()) == ()


def test_a_loader_that_comes_later_is_sent_without_a_restart(
    placed: HttpLoaders, debian: Path, sent: Path
) -> None:
    (debian / "ipxe-arm64.efi").write_bytes(b"arm loader")

    placed.look(Loaders())

    assert (sent / "ipxe-arm64.efi").read_bytes() == b"arm loader"


def test_a_changed_configuration_changes_what_is_sent(
    placed: HttpLoaders, tmp_path: Path, sent: Path
) -> None:
    own = tmp_path / "own.efi"
    own.write_bytes(b"our own")
    digest = hashlib.sha256(b"our own").hexdigest()

    placed.look(Loaders(efi64=Loader(path=str(own), sha256=digest)))

    assert (sent / "ipxe-x86_64.efi").read_bytes() == b"our own"


def test_a_file_that_is_not_the_configured_one_is_named_and_never_sent(
    placed: HttpLoaders, tmp_path: Path, debian: Path, sent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (debian / "ipxe-arm64.efi").write_bytes(b"arm loader")
    own = tmp_path / "own.efi"
    own.write_bytes(b"someone else's")
    configured = Loaders(http_efi64=Loader(path=str(own), sha256="0" * 64))

    placed.look(configured)

    assert [path.name for path in sent.iterdir()] == ["ipxe-arm64.efi"]
    assert f"not {'0' * 64}; correct appliance.pxe.loader (http-efi64)" in caplog.text
    caplog.clear()
    placed.look(configured)
    assert caplog.text == ""
