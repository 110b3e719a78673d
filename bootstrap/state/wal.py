"""Tells damage in SQLite's write-ahead log from the torn end that a power cut leaves.

SQLite takes the log up to the first frame whose sum is wrong, and forgets the rest without a word: right for a torn
last commit, wrong for a bit that the disk has lost in the middle of answered ones. Each commit is synced before the
next one is written (synchronous=FULL), so a wrong frame with a whole later commit behind it is damage. A frame's sum
goes on from the sum that stands in the frame before, which tells what belongs together: all that a crash can leave
behind the end is one commit.

Format: sqlite.org/fileformat2.html, section 4.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

HEADER_BYTES, FRAME_BYTES = 32, 24
MAGIC = 0x377F0682  # its lowest bit says in which order the words are summed
Sum = tuple[int, int]


def is_damaged(log: Path) -> bool:
    """Return whether answered commits in the log at `log` are lost to SQLite; False if there is no log."""
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return False
    if len(data) < HEADER_BYTES:
        return False
    magic, _, page_size = struct.unpack_from(">3I", data)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != MAGIC or page_size not in {1 << bits for bits in range(9, 17)}:
        return len(data) > HEADER_BYTES and data[:HEADER_BYTES].strip(b"\0") != b""
    stored: Sum = struct.unpack_from(">2I", data, 24)
    right = _sum(data[:24], order, (0, 0))
    return _loses_a_commit(data, order, page_size, {stored, right})


def _loses_a_commit(data: bytes, order: str, page_size: int, before: set[Sum]) -> bool:
    """Return whether a whole commit that fits to what stands before it comes behind something wrong.

    `before` holds the sum that stands before the first frame and the one that should: two if something is wrong.
    """
    ends = 1 if len(before) > 1 else None  # commits still to be seen behind what is wrong
    salts = {data[16:24]} if ends is None else {data[16:24], data[40:48]}
    for place in _frames(data, page_size):
        header, page = data[place : place + 8], data[place + FRAME_BYTES : place + FRAME_BYTES + page_size]
        stored: Sum = struct.unpack_from(">2I", data, place + 16)
        right = {_sum(page, order, _sum(header, order, seed)) for seed in before}
        is_commit, is_ours = header[4:] != bytes(4), data[place + 8 : place + 16] in salts
        if stored not in right and not is_ours:
            # Wrong, or of a log that was done with: SQLite starts over without clearing it. Nothing goes on from it.
            before, ends = set(), 2
            continue
        if stored not in right or (ends is None and not is_ours):
            ends = 1 if is_commit else 2
        elif is_commit and ends is not None:
            ends -= 1
        if ends == 0:
            return True
        before = {stored} if stored in right else {stored, *right}
    return False


def _frames(data: bytes, page_size: int) -> Iterator[int]:
    whole = FRAME_BYTES + page_size
    return iter(range(HEADER_BYTES, len(data) - whole + 1, whole))


def _sum(content: bytes, order: str, before: Sum) -> Sum:
    """Return SQLite's sum over `content`, going on from `before`."""
    one, other = before
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + other) & 0xFFFFFFFF
        other = (other + second + one) & 0xFFFFFFFF
    return one, other
