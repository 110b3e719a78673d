"""Archives that were damaged on the way, or made by somebody else, are refused in one line; nothing is changed."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap.backup import archive
from bootstrap.backup.archive import part, read_archive, write_archive
from bootstrap.backup.manifest import FORMAT, Manifest, is_place
from bootstrap.errors import BackupError, FirstlightError, UsageError
from tests.unit.backup.conftest import Rack, everything

TAKEN = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1 << 30

Info = tarfile.TarInfo


def listed(path: str, content: bytes, **values: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"path": path, "size": len(content), "sha256": digest, "mode": 0o600} | values


def text_of(*members: dict[str, Any], **values: Any) -> bytes:
    known = {"format": FORMAT, "cluster": "rack1", "version": "1", "taken_at": TAKEN.isoformat()}
    return json.dumps({**known, "members": members, **values}).encode()


def info_of(path: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> Info:
    info = Info(path)
    info.size, info.type, info.linkname = size, kind, link
    return info


def packed(manifest: bytes, *others: tuple[Info, bytes]) -> bytes:
    """Return an archive of a manifest and of whatever comes behind it."""
    parts = ((info_of("manifest.json", len(manifest)), manifest), *others)
    blocks = b"".join(info.tobuf() + content + bytes(-len(content) % 512) for info, content in parts)
    return gzip.compress(blocks + bytes(10240 - len(blocks) % 10240 + 10240))


def refused(file: Path, content: bytes, sink: archive.Sink | None = None) -> str:
    file.write_bytes(content)
    with pytest.raises(BackupError) as caught:
        read_archive(file, sink)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "b.tar.gz"


@pytest.fixture
def small(file: Path) -> bytes:
    """Return a backup of a kilobyte, of which every byte can be tried."""
    parts = (part("pki/ca.key", b"key" * 50, 0o600), part("pki/ca.crt", b"certificate", 0o644))
    manifest = Manifest(
        cluster="rack1", version="1", taken_at=TAKEN, members=tuple(each.member for each in parts)
    )
    write_archive(file, manifest, parts)
    return file.read_bytes()


def content_of(file: Path) -> tuple[Manifest, dict[str, bytes]]:
    found: dict[str, bytes] = {}

    def put(member: Any, content: archive.Content) -> None:
        found[member.path] = b"".join(content.chunks())

    return read_archive(file, put), found


def test_every_flipped_bit_is_noticed_or_changes_nothing(file: Path, small: bytes) -> None:
    whole = content_of(file)
    unnoticed = []
    for place in range(len(small)):
        damaged = bytearray(small)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        try:
            assert content_of(file) == whole
            unnoticed.append(place)
        except BackupError:
            continue

    assert len(small) > 400
    # Time and origin in gzip's header are in no sum and nobody reads them (RFC 1952, 2.3); and a run of zeros can be
    # written in several ways (RFC 1951, 3.2.3): what comes out is the same.
    assert len(unnoticed) < len(small) // 20


def test_every_truncation_is_noticed(file: Path, small: bytes) -> None:
    for length in range(len(small)):
        assert "is damaged" in refused(file, small[:length])


@pytest.mark.parametrize(
    "more", [b"x", b"\0\0\0\0x", gzip.compress(b"more", mtime=0), gzip.compress(bytes(GIB // 64), mtime=0)]
)
def test_what_stands_behind_the_end_is_noticed(file: Path, small: bytes, more: bytes) -> None:
    assert "is damaged" in refused(file, small + more)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../../etc/passwd", "pki/../../x", "pki/..", "pki/./a", "pki//a", "pki/", "pki", "./pki/a",
        "pki/.hidden", "pki/a\nb", "pki/a\0b", "pki/\u202egpj", "pki\\a", "run/lock", "bundle/x", "restored.json",
        "state/state.db-wal", "state/other.db", "etcd.snapshot/x", "config", "", ".", "..", "pki/" + "a" * 97,
        "PKI/a", "lab/id_ed25519", "pki/a b", "manifest.json",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(file: Path, path: str) -> None:
    assert not is_place(path)
    content = packed(text_of(listed(path, b"x")), (info_of(path.replace("\0", "")[:99] or "x", 1), b"x"))

    assert "its manifest: " in refused(file, content, lambda *_: pytest.fail("was unpacked"))


def test_a_name_in_the_tar_that_the_manifest_has_not_is_refused(file: Path) -> None:
    content = packed(text_of(listed("pki/a", b"x")), (info_of("../../etc/cron.d/x", 1), b"x"))

    said = refused(file, content, lambda *_: pytest.fail("was unpacked"))
    assert "'../../etc/cron.d/x' where 'pki/a' should be" in said


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
        tarfile.CONTTYPE, tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"Z",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_first", [True, False])
def test_what_is_no_plain_file_is_refused(file: Path, kind: bytes, *, is_first: bool) -> None:
    odd = info_of("pki/a", 0, kind, "/etc/shadow")
    blocks = odd.tobuf() + bytes(20480) if is_first else b""
    content = gzip.compress(blocks) if is_first else packed(text_of(listed("pki/a", b"")), (odd, b""))

    assert "is no plain file" in refused(file, content, lambda *_: pytest.fail("was unpacked"))


def test_a_terminal_that_shows_the_error_does_not_obey_the_archive(file: Path) -> None:
    content = packed(text_of(listed("pki/a", b"")), (info_of("\x1b[2J\nroot"), b""))

    assert "\x1b" not in refused(file, content)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"members": [listed("pki/a", b""), listed("pki/a", b"")]}, "twice"),
        ({"members": [listed("pki/a", b""), listed("pki/a/b", b"")]}, "is a file and a folder"),
        ({"members": [listed("pki/a", b"", size=-1)]}, "greater than or equal to 0"),
        ({"members": [listed("pki/a", b"", size=64 * GIB)]}, "less than or equal to"),
        ({"members": [listed(f"pki/{n}", b"", size=9 * GIB) for n in range(4)]}, "more than a backup has"),
        ({"members": [listed("pki/a", b"", mode=0o4755)]}, "384 or 420"),
        ({"members": [listed("pki/a", b"", sha256="0")]}, "should match pattern"),
        ({"members": [listed("pki/a", b"") | {"uid": 0}]}, "Extra inputs"),
        ({"members": 1}, "valid array"),
        ({"taken_at": "yesterday"}, "valid datetime"),
    ],
)
def test_a_manifest_that_lies_is_refused(file: Path, values: dict[str, Any], why: str) -> None:
    assert why in refused(file, packed(text_of(**values)))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": true}'])
def test_a_manifest_that_is_none_is_refused(file: Path, text: bytes) -> None:
    assert "its manifest" in refused(file, packed(text))


def test_a_later_format_is_told_apart_from_damage(file: Path) -> None:
    said = refused(file, packed(json.dumps({"format": FORMAT + 1, "new": 1}).encode()))
    assert f"is of a later firstlight (format {FORMAT + 1}, this one reads {FORMAT}); use that one" in said


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\3\4 a zip", b"\x1f\x8b", gzip.compress(b"", mtime=0), gzip.compress(bytes(9999), mtime=0)],
)
def test_a_file_that_is_no_backup_is_refused(file: Path, content: bytes) -> None:
    assert "is damaged" in refused(file, content)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_archive(tmp_path / "none")


def bombs() -> dict[str, Callable[[], bytes]]:
    zeros = bytes(64 << 20)
    return {
        "no manifest but zeros": lambda: gzip.compress(zeros),
        "a manifest without an end": lambda: packed_bomb(info_of("manifest.json", 8 * GIB), zeros),
        "a member larger than it says": lambda: packed(
            text_of(listed("pki/a", b"x")), (info_of("pki/a", 8 * GIB), zeros)
        ),
        "an extended header": lambda: packed(
            text_of(listed("pki/a", b"x")), (info_of("x", len(zeros), tarfile.XHDTYPE), zeros)
        ),
        "more behind the end": lambda: packed(text_of()) + gzip.compress(zeros),
    }


def packed_bomb(info: Info, content: bytes) -> bytes:
    return gzip.compress(info.tobuf() + content)


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_before_it_takes_memory(file: Path, name: str) -> None:
    content = bombs()[name]()
    tracemalloc.start()
    try:
        refused(file, content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(content) < 1 << 20
    assert peak < 8 << 20


@pytest.mark.parametrize("where", ["front", "middle", "end", "cut"])
def test_a_damaged_backup_leaves_the_work_folder_as_it_was(rack: Rack, where: str) -> None:
    rack.backup()
    content = bytearray(rack.file.read_bytes())
    if where == "cut":
        del content[-100:]
    else:
        content[{"front": 20, "middle": len(content) // 2, "end": -6}[where]] ^= 4
    rack.file.write_bytes(content)
    before = everything(rack.place.deploy)

    with pytest.raises(BackupError, match=r"is damaged .* nothing was changed, take another backup"):
        rack.restore(is_forced=True)
    assert everything(rack.place.deploy) == before


def test_another_clusters_backup_is_refused(rack: Rack) -> None:
    rack.backup()
    other = packed(text_of(cluster="prod"))
    rack.file.write_bytes(other)

    with pytest.raises(
        UsageError, match=r"is of cluster 'prod', the configuration is of 'rack1'; name the config"
    ):
        rack.restore(is_forced=True)


def test_too_little_room_is_told_before_anything_is_unpacked(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 30 * GIB))
    rack.file.write_bytes(packed(text_of(listed("etcd.snapshot", b"", size=31 * GIB))))

    with pytest.raises(
        FirstlightError, match=r"takes 31808 MiB, and 30720 MiB are free on .*; make room there"
    ):
        rack.restore(is_forced=True)
    assert list(rack.place.deploy.glob("*.restoring-*")) == []


def test_a_store_in_it_that_is_none_is_refused(rack: Rack) -> None:
    junk = b"SQLite format 3\0" + b"\xff" * 5000
    rack.file.write_bytes(
        packed(text_of(listed("state/state.db", junk)), (info_of("state/state.db", len(junk)), junk))
    )
    before = everything(rack.place.deploy)

    with pytest.raises(FirstlightError, match=r"the store in it is damaged .*; take another backup"):
        rack.restore(is_forced=True)
    assert everything(rack.place.deploy) == before


def test_the_archive_is_what_the_tests_think(file: Path) -> None:
    good = packed(text_of(listed("pki/a", b"x")), (info_of("pki/a", 1), b"x"))
    file.write_bytes(good)

    assert content_of(file)[1] == {"pki/a": b"x"}
    assert io.BytesIO(good).read(2) == b"\x1f\x8b"
