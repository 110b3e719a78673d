"""An archive ends as tar's do, whatever its size: two blocks of zeros, and zeros up to a whole record."""

import gzip
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootstrap.backup.archive import part, read_archive, write_archive
from bootstrap.backup.manifest import Manifest

RECORD = tarfile.RECORDSIZE // tarfile.BLOCKSIZE


@pytest.mark.parametrize("blocks", range(1, RECORD + 1))
def test_a_backup_of_any_size_reads_back(tmp_path: Path, blocks: int) -> None:
    """One in twenty ends one block before a record does."""
    content = part("pki/ca.key", bytes(blocks * tarfile.BLOCKSIZE), 0o600)
    manifest = Manifest(
        cluster="rack1", version="1", taken_at=datetime(2026, 1, 1, tzinfo=UTC), members=(content.member,)
    )

    write_archive(tmp_path / "b.tar.gz", manifest, (content,))

    assert read_archive(tmp_path / "b.tar.gz") == manifest
    assert len(gzip.decompress((tmp_path / "b.tar.gz").read_bytes())) % tarfile.RECORDSIZE == 0
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        assert tar.getnames() == ["manifest.json", "pki/ca.key"]
