"""Configuration files as editors, copies, disks and attackers damage them, from seeded random numbers."""

import random
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
LARGEST = 64 * 1024  # bytes of one mutated file: what is bigger has tests of its own

Mutation = Callable[[bytes, random.Random], bytes]

VALUES = (
    "", "~", "null", "yes", "No", "0", "-1", "0o17", "0x7f", "1e309", ".inf", "-.nan", "9" * 30, "1" + "0" * 5000,
    "0.1", "true", "[]", "{}", "[[[]]]", "{a: {b: {c: }}}", '"', "'", "|", ">-", "!!python/object/apply:os.system [id]",
    "!!binary aGk=", "!!str 12", "!!set {a, b}", "!x y", "&a", "*a", "<<: *a", "? x", "- - -", "# nothing", "@", "`",
    "%TAG ! x", "---", "...", "10.0.0.0/8", "0.0.0.0", "255.255.255.255/32", "::1", "fe80::%eth0", "10.0.0.1/99",
    "52:54:00:aa:00:01", "ff:ff:ff:ff:ff:ff", "00-00-00-00-00-00", "${mac}", "$(id)", "../../etc/passwd", "a\\nb",
    "\u202eevil", "e\u0301", "\U0001f4a9", "\ufffe", "\ud7ff", "ssh-ed25519 AAAA", "v1.99.99", "2026-01-01", "12:34:56",
    "1_000", "x" * 3000,
)  # fmt: skip
"""What takes the place of a value: other types, tags, addresses, names, numbers."""

PIECES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\t", b"\x85", b"\xe2\x80\xa8", b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\x1b[31m", b"\x7f", b"\xf4\x90\x80\x80", b"{{", b"}}", b"[[", b"&x ", b"*x ", b": ", b"- ", b"#", b'"', b"'",
    b"%YAML 1.1\n---\n", b"!!python/name:os.system ", b"\n---\n", b"\n...\n", b"\xc2\xa0",
    b'\n"a\\n\\e[2Jb": ', b'"\\0\\x9b\\u2028\\ud800"',
)  # fmt: skip
"""Bytes that are put in anywhere."""


@cache
def sources() -> tuple[bytes, ...]:
    """Return the files that mutations start from: the samples, and the wrong configurations of the test suite."""
    samples = sorted((ROOT / "configs").glob("*.yaml"))
    wrong = sorted((ROOT / "tests/wrong_configs").glob("*.yaml"))
    return tuple(path.read_bytes() for path in (*samples * 60, *wrong))


def mutated(dice: random.Random) -> bytes:
    """Return one damaged configuration: mostly one or two mutations, so that most of it is still read."""
    text = dice.choice(sources())
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 6))):
        text = dice.choice(MUTATIONS)(text, dice)[:LARGEST]
    return text


def flip_bit(text: bytes, dice: random.Random) -> bytes:
    """Flip one bit."""
    place = dice.randrange(len(text) or 1)
    return (
        text[:place]
        + bytes(byte ^ 1 << dice.randrange(8) for byte in text[place : place + 1])
        + text[place + 1 :]
    )


def delete_bytes(text: bytes, dice: random.Random) -> bytes:
    """Leave out a run of bytes."""
    place = dice.randrange(len(text) + 1)
    return text[:place] + text[place + dice.choice((1, 2, 5, 40, 400)) :]


def insert_piece(text: bytes, dice: random.Random) -> bytes:
    """Put a piece in, once or many times over."""
    place = dice.randrange(len(text) + 1)
    return text[:place] + dice.choice(PIECES) * dice.choice((1, 1, 1, 2, 50)) + text[place:]


def cut_off(text: bytes, dice: random.Random) -> bytes:
    """Keep only the beginning, as a full disk does."""
    return text[: dice.randrange(len(text) + 1)]


def line_of(edit: Callable[[list[bytes], random.Random], None]) -> Mutation:
    """Return the mutation that edits a file's lines in place."""

    def mutation(text: bytes, dice: random.Random) -> bytes:
        lines = text.split(b"\n")
        edit(lines, dice)
        return b"\n".join(lines)

    return mutation


def swap(lines: list[bytes], dice: random.Random) -> None:
    """Exchange two lines."""
    one, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


def repeat(lines: list[bytes], dice: random.Random) -> None:
    """Repeat a run of lines, once or often."""
    begin = dice.randrange(len(lines))
    run = lines[begin : begin + dice.choice((1, 1, 3, 10))]
    lines[begin:begin] = run * dice.choice((1, 1, 2, 60))


def drop(lines: list[bytes], dice: random.Random) -> None:
    """Leave out a run of lines."""
    begin = dice.randrange(len(lines))
    del lines[begin : begin + dice.choice((1, 1, 2, 8))]


def indent(lines: list[bytes], dice: random.Random) -> None:
    """Move a line to the right or to the left."""
    place = dice.randrange(len(lines))
    shift = dice.choice((-4, -2, -1, 1, 2, 3, 8))
    line = lines[place]
    lines[place] = b" " * shift + line if shift > 0 else line[-shift:]


def replace_value(lines: list[bytes], dice: random.Random) -> None:
    """Give a key another value, of another type most likely."""
    place = dice.randrange(len(lines))
    key, colon, _ = lines[place].partition(b": ")
    if colon:
        lines[place] = key + colon + dice.choice(VALUES).encode()


def misspell(lines: list[bytes], dice: random.Random) -> None:
    """Give a value to another key: one of the file's own, or nonsense."""
    keys = re.findall(rb"([A-Za-z]+):", b"\n".join(lines)) or [b"x"]
    place = dice.randrange(len(lines))
    new = dice.choice(
        [*keys, b"", b"__class__", b"model_fields", b"<<", b"1", b"null", b"nam", b"Name", b'"\\e[31m\\nx"']
    )
    lines[place] = re.sub(rb"[A-Za-z]+(?=:)", lambda _: new, lines[place], count=1)


def anchored(text: bytes, dice: random.Random) -> bytes:
    """Add anchors and aliases: harmless ones, circles, and bombs."""
    width, depth = dice.choice((2, 9, 40)), dice.choice((2, 6, 12))
    first = b"x0: &x0 [a, b]\n"
    rows = [b"x%d: &x%d [%s]\n" % (n, n, b", ".join([b"*x%d" % (n - 1)] * width)) for n in range(1, depth)]
    circle = dice.choice((b"", b"y: &y [*y]\n", b"machines: &m [*m]\n", b"z: *nothing\n"))
    return dice.choice((text + first + b"".join(rows) + circle, first + b"".join(rows) + text + circle))


def nested(text: bytes, dice: random.Random) -> bytes:
    """Put a value of many levels in."""
    opening, closing = dice.choice(((b"[", b"]"), (b"{a: ", b"}"), (b"- ", b""), (b"? ", b"")))
    depth = dice.choice((5, 40, 2000))
    place = text.find(b"\n", dice.randrange(len(text) + 1)) + 1
    return (
        text[:place]
        + dice.choice((b"deep: ", b""))
        + opening * depth
        + b"1"
        + closing * depth
        + b"\n"
        + text[place:]
    )


def merged(text: bytes, dice: random.Random) -> bytes:
    """Continue with the second half of another file."""
    other = dice.choice(sources())
    return text[: dice.randrange(len(text) + 1)] + other[dice.randrange(len(other) + 1) :]


def recoded(text: bytes, dice: random.Random) -> bytes:
    """Save the file in another encoding or with other line ends."""
    plain = text.decode("utf-8", "replace")
    kind = dice.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037", "cr", "crlf"))
    if kind in {"cr", "crlf"}:
        return text.replace(b"\n", {"cr": b"\r", "crlf": b"\r\n"}[kind])
    return plain.encode(kind, "replace")


MUTATIONS: Sequence[Mutation] = (
    flip_bit, flip_bit, delete_bytes, insert_piece, cut_off, line_of(swap), line_of(repeat), line_of(drop),
    line_of(indent), line_of(indent), *[line_of(replace_value)] * 6, *[line_of(misspell)] * 3, anchored, nested,
    merged, recoded,
)  # fmt: skip
