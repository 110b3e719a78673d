import struct
import uuid
import zlib

import pytest

from bootstrap.image import gpt
from bootstrap.image.gpt import Partition, Table

SECTORS = 16384


def partition(first: int, sectors: int, name: str = "part") -> Partition:
    return Partition(name=name, kind=gpt.LINUX_ROOT, identity=uuid.UUID(int=7), first=first, sectors=sectors)


def table(*partitions: Partition) -> Table:
    return Table(identity=uuid.UUID(int=1), sectors=SECTORS, partitions=partitions)


def header_sum_holds(header: bytes) -> bool:
    said = int.from_bytes(header[16:20], "little")
    return said == zlib.crc32(header[:16] + bytes(4) + header[20:92])


def test_the_first_header_lies_in_front_of_its_rows() -> None:
    made = gpt.primary(table(partition(2048, 100)))

    own, other, first, last = struct.unpack_from("<QQQQ", made, 24)
    assert len(made) == 33 * 512
    assert made[:8] == b"EFI PART"
    assert (own, other) == (1, SECTORS - 1)
    assert (first, last) == (34, SECTORS - 34)


def test_the_second_header_lies_behind_its_rows_and_points_back() -> None:
    made = gpt.backup(table(partition(2048, 100)))

    header = made[-512:]
    own, other = struct.unpack_from("<QQ", header, 24)
    (rows_at,) = struct.unpack_from("<Q", header, 72)
    assert (own, other, rows_at) == (SECTORS - 1, 1, SECTORS - 33)
    assert made[:-512] == gpt.primary(table(partition(2048, 100)))[512:]


def test_both_checksums_hold() -> None:
    full = table(partition(2048, 100))
    first, second = gpt.primary(full), gpt.backup(full)

    (rows_sum,) = struct.unpack_from("<I", first, 88)
    assert header_sum_holds(first[:512])
    assert header_sum_holds(second[-512:])
    assert rows_sum == zlib.crc32(first[512:])


def test_a_row_holds_kind_identity_places_and_name() -> None:
    row = gpt.primary(table(partition(2048, 100, "firstlight-root")))[512:640]

    assert row[:16] == gpt.LINUX_ROOT.bytes_le
    assert row[16:32] == uuid.UUID(int=7).bytes_le
    assert struct.unpack_from("<QQ", row, 32) == (2048, 2147)
    assert row[56:].decode("utf-16-le").rstrip("\0") == "firstlight-root"


@pytest.mark.parametrize(
    "wrong",
    [
        (partition(33, 10),),
        (partition(2048, 0),),
        (partition(2048, 100), partition(2147, 1)),
        (partition(2048, SECTORS - 2048 - 32),),
    ],
    ids=["on the first table", "empty", "overlap", "on the second table"],
)
def test_impossible_tables_are_refused(wrong: tuple[Partition, ...]) -> None:
    with pytest.raises(ValueError, match="partition"):
        table(*wrong)


def test_the_last_usable_sector_may_be_used() -> None:
    assert table(partition(2048, SECTORS - 2048 - 33)).partitions[0].last == SECTORS - 34


def test_the_protective_entry_covers_the_disk_and_stops_at_32_bits() -> None:
    small, huge = gpt.protective_mbr(SECTORS), gpt.protective_mbr(2**40)

    assert small[510:] == b"\x55\xaa"
    assert small[450] == 0xEE
    assert struct.unpack_from("<II", small, 454) == (1, SECTORS - 1)
    assert struct.unpack_from("<II", huge, 454) == (1, 0xFFFFFFFF)
