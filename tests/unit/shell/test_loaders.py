"""The folders of TFTP and of HTTP boot hold the right loaders, and nothing else."""

import hashlib
from pathlib import Path

import pytest

from bootstrap import loaders
from bootstrap.errors import PreflightError
from bootstrap.loaders import Way
from bootstrap.model.appliance import Loader, Loaders


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    folder = tmp_path / "ipxe"
    folder.mkdir()
    (folder / "undionly.kpxe").write_bytes(b"bios loader")
    (folder / "snponly.efi").write_bytes(b"efi loader")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "tftp"


def place(
    root: Path,
    debian: Path,
    configured: Loaders | None = None,
    cache: Path = Path("/nowhere"),
    way: Way = "tftp",
) -> list[str]:
    missing = loaders.place(root, loaders.sources(way, configured or Loaders(), cache, debian))
    return [source.firmware for source in missing]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_debians_loaders_are_copied_for_all_to_read(root: Path, debian: Path) -> None:
    assert place(root, debian) == ["efi-arm64"]
    assert (root / "undionly.kpxe").read_bytes() == b"bios loader"
    assert (root / "snponly.efi").read_bytes() == b"efi loader"
    assert mode(root) == 0o755
    assert {mode(path) for path in root.iterdir()} == {0o644}


def test_arm64_loader_is_sent_where_there_is_a_small_one(root: Path, debian: Path) -> None:
    (debian / "arm64-efi").mkdir()
    (debian / "arm64-efi" / "snponly.efi").write_bytes(b"arm loader")
    assert place(root, debian) == []
    assert (root / "arm64-efi" / "snponly.efi").read_bytes() == b"arm loader"
    assert mode(root / "arm64-efi") == 0o755


def test_all_else_is_removed(root: Path, debian: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "key").write_text("stays")
    root.mkdir()
    (root / "old.efi").write_text("old")
    (root / "folder").mkdir()
    (root / "folder" / "file").write_text("old")
    (root / "link").symlink_to(precious)
    place(root, debian)
    assert sorted(path.name for path in root.iterdir()) == ["snponly.efi", "undionly.kpxe"]
    assert (precious / "key").read_text() == "stays"


def test_placing_twice_changes_nothing(root: Path, debian: Path) -> None:
    place(root, debian)
    place(root, debian)
    assert sorted(path.name for path in root.iterdir()) == ["snponly.efi", "undionly.kpxe"]


def test_missing_loader_names_the_package(root: Path, debian: Path) -> None:
    (debian / "undionly.kpxe").unlink()
    with pytest.raises(PreflightError, match=r"for bios machines.*undionly\.kpxe.*apt-get install ipxe"):
        place(root, debian)


def test_big_loader_is_refused(root: Path, debian: Path) -> None:
    (debian / "snponly.efi").write_bytes(bytes(loaders.LARGEST_BYTES))
    with pytest.raises(PreflightError, match=r"efi64.*300,000 bytes or more"):
        place(root, debian)
    (debian / "snponly.efi").write_bytes(bytes(loaders.LARGEST_BYTES - 1))
    assert place(root, debian) == ["efi-arm64"]


def test_configured_loader_is_taken_when_its_sum_is_right(root: Path, debian: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.efi"
    own.write_bytes(b"our own build")
    right = hashlib.sha256(b"our own build").hexdigest()
    place(root, debian, Loaders(efi64=Loader(path=str(own), sha256=right)))
    assert (root / "snponly.efi").read_bytes() == b"our own build"
    assert (root / "undionly.kpxe").read_bytes() == b"bios loader"


def test_configured_loader_with_another_sum_is_refused_and_not_placed(
    root: Path, debian: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.efi"
    own.write_bytes(b"someone else's build")
    found = hashlib.sha256(b"someone else's build").hexdigest()
    with pytest.raises(PreflightError, match=f"sum {found}, not {'0' * 64}; correct appliance.pxe.loader"):
        place(root, debian, Loaders(bios=Loader(path=str(own), sha256="0" * 64)))
    assert not (root / "undionly.kpxe").exists()


def test_configured_url_is_taken_from_the_cache_by_its_sum(root: Path, debian: Path, tmp_path: Path) -> None:
    right = hashlib.sha256(b"downloaded").hexdigest()
    configured = Loaders(efi_arm64=Loader(url="https://example.net/arm64.efi", sha256=right))
    with pytest.raises(
        PreflightError, match=r"run image build, which brings it from https://example\.net/arm64\.efi"
    ):
        place(root, debian, configured, tmp_path)
    (tmp_path / "sha256").mkdir()
    (tmp_path / "sha256" / right).write_bytes(b"downloaded")
    assert place(root, debian, configured, tmp_path) == []
    assert (root / "arm64-efi" / "snponly.efi").read_bytes() == b"downloaded"


def loader_of(folder: Path, name: str, content: bytes) -> Loader:
    """Return a configured loader with its own file."""
    (folder / name).write_bytes(content)
    return Loader(path=str(folder / name), sha256=hashlib.sha256(content).hexdigest())


def test_http_boot_gets_debians_loaders_under_names_that_say_the_processor(root: Path, debian: Path) -> None:
    """Debian 13's loader for arm64 has all drivers and 1 MB: too much for TFTP, nothing for HTTP."""
    assert place(root, debian, way="http") == ["http-arm64"]
    (debian / "ipxe-arm64.efi").write_bytes(bytes(1_011_712))

    assert place(root, debian, way="http") == []
    assert (root / "ipxe-x86_64.efi").read_bytes() == b"efi loader"
    assert len((root / "ipxe-arm64.efi").read_bytes()) == 1_011_712
    assert len(list(root.iterdir())) == 2


def test_http_boot_gets_the_loader_that_was_configured_for_its_processor(
    root: Path, debian: Path, tmp_path: Path
) -> None:
    configured = Loaders(
        efi64=loader_of(tmp_path, "x", b"own"),
        efi_arm64=loader_of(tmp_path, "a", b"own arm"),
        http_arm64=loader_of(tmp_path, "h", bytes(loaders.LARGEST_BYTES)),
    )

    assert place(root, debian, configured, way="http") == []
    assert (root / "ipxe-x86_64.efi").read_bytes() == b"own"
    assert len((root / "ipxe-arm64.efi").read_bytes()) == loaders.LARGEST_BYTES
    assert place(tmp_path / "tftp", debian, configured) == []
    assert (tmp_path / "tftp" / "arm64-efi" / "snponly.efi").read_bytes() == b"own arm"


def test_what_is_too_big_for_any_loader_is_refused_by_http_too(
    root: Path, debian: Path, tmp_path: Path
) -> None:
    big = loader_of(tmp_path, "big", bytes(loaders.LARGEST_BY_HTTP))
    with pytest.raises(PreflightError, match=r"http-efi64.*16,000,000 bytes or more, too many for a loader"):
        place(root, debian, Loaders(efi64=big), way="http")
