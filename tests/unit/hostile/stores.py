"""A store's files, damaged as disks and people damage them, and the verdict over what is read from them."""

import os
import random
from collections.abc import Callable
from pathlib import Path

from bootstrap.errors import StateError
from bootstrap.state import Put, wal
from bootstrap.state.sqlite import SqliteStore

COMMITS = 40
Content = dict[str, bytes]
PAGE = 4096


class Original:
    """A store with a file and a log, the bytes of both, and what it held after each commit."""

    def __init__(self, folder: Path) -> None:
        path = folder / "state.db"
        dice = random.Random(7)
        store = SqliteStore(path)
        held: Content = {}
        self.held: list[Content] = []
        for number in range(COMMITS):
            if number == COMMITS // 2:
                store.close()  # what came before goes into the file, the rest stays in the log
                store = SqliteStore(path)
                self.in_file = len(self.held) - 1
            news = {
                f"machine/{number % 7}": dice.randbytes(300),
                f"event/{number:04d}": dice.randbytes(dice.choice((9, 9000))),
            }
            store.commit([Put(key=key, value=value) for key, value in news.items()])
            held = {**held, **news}
            self.held.append(held)
        self.file, self.log = path.read_bytes(), _frames_of(path.with_name("state.db-wal").read_bytes())
        store.close()


def _frames_of(log: bytes) -> bytes:
    """Return a log without the room that was made for what comes: damage there would hurt nobody."""
    frame = wal.FRAME_BYTES + PAGE
    used = len(log.rstrip(b"\0")) - wal.HEADER_BYTES
    return log[: wal.HEADER_BYTES + -(-used // frame) * frame]


Damage = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, dice: random.Random) -> None:
    """Flip one bit."""
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def flip_many(data: bytearray, dice: random.Random) -> None:
    """Flip some bits."""
    for _ in range(20):
        flip(data, dice)


def clear_page(data: bytearray, dice: random.Random) -> None:
    """Make one page zeros."""
    start = dice.randrange(len(data)) // PAGE * PAGE
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))


def garbage(data: bytearray, dice: random.Random) -> None:
    """Write nonsense over a part."""
    start = dice.randrange(len(data))
    length = min(dice.choice((8, 600, 20_000)), len(data) - start)
    data[start : start + length] = dice.randbytes(length)


def exchange_pages(data: bytearray, dice: random.Random) -> None:
    """Put one page where another one was."""
    one, other = (dice.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[one : one + PAGE] = data[other : other + PAGE]


def truncate(data: bytearray, dice: random.Random) -> None:
    """Cut the end off."""
    del data[dice.randrange(len(data)) :]


DAMAGES: tuple[Damage, ...] = (flip, flip, flip, flip_many, clear_page, garbage, exchange_pages, truncate)


def try_damaged(folder: Path, original: Original, dice: random.Random) -> str:
    """Damage the file or the log, open it, and return what came of it: refused, right, or cut.

    `cut` is what a power cut leaves too: all that held after some earlier commit, not one byte else.
    """
    file, log = bytearray(original.file), bytearray(original.log)
    in_log = dice.random() < 0.4
    damage = dice.choice(DAMAGES)
    damage(log if in_log else file, dice)
    path = folder / f"state-{os.urandom(4).hex()}.db"
    path.write_bytes(file)
    path.with_name(f"{path.name}-wal").write_bytes(log)
    try:
        found = content(path)
    except StateError as error:
        judge_refusal(path, str(error))
        return "refused"
    finally:
        for left in folder.glob(f"{path.name}*"):
            left.unlink()
    if found == original.held[-1]:
        return "right"
    assert in_log, (damage.__name__, "the file")
    assert found in original.held[original.in_file :], (damage.__name__, "the log")
    return "cut"


def judge_refusal(path: Path, said: str) -> None:
    """Assert that a refusal names the file and says what to do."""
    assert said.startswith(f"{path}: "), said
    if "written by a later firstlight" not in said:  # the damage hit the number of the format
        assert "the file is damaged" in said, said
        assert said.endswith("stop the appliance and put a copy from a backup in its place"), said


def content(path: Path) -> Content:
    """Return everything in the store, read in both ways; raises StateError."""
    store = SqliteStore(path)
    try:
        scanned = {entry.key: entry.value for entry in store.scan("")}
        known = {f"machine/{number}" for number in range(7)} | {
            f"event/{number:04d}" for number in range(COMMITS)
        }
        single = {key: entry.value for key in known if (entry := store.get(key))}
        assert single == scanned
        store.commit([Put(key="another", value=b"x")])
        return scanned
    finally:
        store.close()
