"""The partition table of a disk image, as bytes (UEFI specification 2.10, chapter 5)."""

import struct
import uuid
import zlib
from dataclasses import dataclass

SECTOR = 512
MIB = 1024 * 1024
ENTRIES = 128
ENTRY_SIZE = 128
TABLE_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
FIRST_USABLE = 2 + TABLE_SECTORS

# The identities that firmware and systemd know partitions by.
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX_ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One row of the table; `first` and `sectors` count sectors of 512 bytes."""

    name: str
    kind: uuid.UUID
    identity: uuid.UUID
    first: int
    sectors: int

    @property
    def last(self) -> int:
        """Return the last sector that belongs to the partition."""
        return self.first + self.sectors - 1


@dataclass(frozen=True, kw_only=True)
class Table:
    """A whole partition table of a disk of `sectors` sectors."""

    identity: uuid.UUID
    sectors: int
    partitions: tuple[Partition, ...]

    def __post_init__(self) -> None:
        """Refuse partitions that overlap each other, or one of the two tables."""
        end = FIRST_USABLE
        for partition in self.partitions:
            if partition.first < end or partition.sectors < 1:
                raise ValueError(f"partition {partition.name} starts before sector {end} or is empty")
            end = partition.last + 1
        if end > self.sectors - TABLE_SECTORS - 1:
            raise ValueError(f"the partitions end at sector {end}, inside the second table")


def protective_mbr(sectors: int) -> bytes:
    """Return the one entry of type EE that keeps old tools away from a disk of `sectors` sectors."""
    # Heads and cylinders are what the specification writes for "not representable".
    entry = struct.pack(
        "<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF)
    )
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def primary(table: Table) -> bytes:
    """Return sectors 1 to 33: the first header and the rows behind it."""
    rows = _rows(table)
    return _header(table, rows, own=1, other=table.sectors - 1, rows_at=2) + rows


def backup(table: Table) -> bytes:
    """Return the last 33 sectors: the rows and the second header behind them."""
    rows = _rows(table)
    last = table.sectors - 1
    return rows + _header(table, rows, own=last, other=1, rows_at=last - TABLE_SECTORS)


def _rows(table: Table) -> bytes:
    rows = b"".join(_row(partition) for partition in table.partitions)
    return rows.ljust(ENTRIES * ENTRY_SIZE, b"\0")


def _row(partition: Partition) -> bytes:
    name = partition.name.encode("utf-16-le").ljust(72, b"\0")
    places = struct.pack("<QQQ", partition.first, partition.last, 0)
    return partition.kind.bytes_le + partition.identity.bytes_le + places + name


def _header(table: Table, rows: bytes, *, own: int, other: int, rows_at: int) -> bytes:
    def fields(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x00010000,
            92,
            checksum,
            0,
            own,
            other,
            FIRST_USABLE,
            table.sectors - TABLE_SECTORS - 2,
            table.identity.bytes_le,
            rows_at,
            ENTRIES,
            ENTRY_SIZE,
            zlib.crc32(rows),
        )

    return fields(zlib.crc32(fields(0))).ljust(SECTOR, b"\0")
