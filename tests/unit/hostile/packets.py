"""DHCP and TFTP packets, and lines of dnsmasq's log, as badly as can be, from seeded random numbers."""

import random
import struct
from functools import cache
from pathlib import Path

from tests.unit.hostile.targets import UPS

COOKIE = b"\x63\x82\x53\x63"
LOGS = Path(__file__).parents[1] / "pxe/data"
MODES = (b"octet", b"OCTET", b"netascii", b"mail", b"", b"x" * 300, b"octet\xff", b"oct\x00et")
NAMES = (b"undionly.kpxe", b"snponly.efi")
OPTIONS = (
    (b"blksize", b"1"),
    (b"blksize", b"65464"),
    (b"blksize", b"-1"),
    (b"blksize", b"9" * 200),
    (b"tsize", b"0"),
    (b"tsize", b"x"),
    (b"timeout", b"0"),
    (b"timeout", b"255"),
    (b"windowsize", b"65535"),
    (b"", b""),
    (b"\xff", b"\xff"),
    (b"multicast", b""),
    (b"x" * 400, b"y"),
    (b"blksize", b""),
)


def mac_from(dice: random.Random) -> bytes:
    """Return the MAC address of a machine that nobody knows."""
    return b"\x52\x54\x00\xee" + dice.randbytes(2)


def frame(mac: bytes, payload: bytes, *, sport: int = 68, dport: int = 67) -> bytes:
    """Return an Ethernet frame with a UDP broadcast."""
    udp = struct.pack(">4H", sport, dport, 8 + len(payload), 0) + payload
    head = struct.pack(">2B3H2BH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + head + udp


def _checksum(head: bytes) -> int:
    total: int = sum(struct.unpack(">10H", head))
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def discover(mac: bytes, dice: random.Random) -> bytes:
    """Return an honest DISCOVER of a BIOS machine, as BOOTP payload."""
    fixed = struct.pack(">4BIHH", 1, 1, 6, 0, dice.getrandbits(32), 0, 0x8000) + bytes(16)
    options = (
        b"\x35\x01\x01\x3c\x20PXEClient:Arch:00000:UNDI:002001\x5d\x02\x00\x00\x37\x04\x01\x03\x42\x43\xff"
    )
    return fixed + mac + bytes(10) + bytes(192) + COOKIE + options


def dhcp(mac: bytes, dice: random.Random) -> bytes:
    """Return a damaged or hostile DHCP message."""
    payload = bytearray(discover(mac, dice))
    dice.choice(DAMAGES)(payload, dice)
    return bytes(payload[:1400])


def _nonsense(payload: bytearray, dice: random.Random) -> None:
    payload[:] = dice.randbytes(dice.choice((0, 1, 100, 300, 1400)))


def _changed(payload: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 3, 30))):
        payload[dice.randrange(len(payload))] = dice.randrange(256)


def _cut(payload: bytearray, dice: random.Random) -> None:
    del payload[dice.randrange(len(payload)) :]


def _other_options(payload: bytearray, dice: random.Random) -> None:
    payload[240:] = _options(dice)


def _other_hardware(payload: bytearray, dice: random.Random) -> None:
    payload[1:4] = dice.randbytes(3)  # kind and length of the hardware address, hops


def _overloaded(payload: bytearray, dice: random.Random) -> None:
    payload[44:236] = dice.randbytes(192)  # server name and file, where options go on (RFC 2132, section 9.3)
    payload[240:243] = b"\x35\x01" + bytes([dice.randrange(1, 19)])
    payload[243:243] = b"\x34\x01" + bytes([dice.randrange(5)])


def _other_kind(payload: bytearray, dice: random.Random) -> None:
    payload[240:] = (
        b"\x35\x01" + bytes([dice.choice((3, 4, 7, 8))]) + b"\x32\x04" + dice.randbytes(4) + b"\xff"
    )


def _evil_texts(payload: bytearray, dice: random.Random) -> None:
    payload[240:] = b"\x35\x01\x01" + _texts(dice) + b"\xff"


DAMAGES = (
    _nonsense,
    _changed,
    _cut,
    _other_options,
    _other_hardware,
    _overloaded,
    _other_kind,
    _evil_texts,
)


def _options(dice: random.Random) -> bytes:
    """Return options of random kinds whose lengths may lie."""
    made = b"\x35\x01" + bytes([dice.choice((1, 1, 3, dice.randrange(256)))])
    for _ in range(dice.choice((1, 5, 40))):
        value = dice.randbytes(dice.choice((0, 1, 2, 4, 16, 60)))
        length = len(value) if dice.random() < 0.8 else dice.randrange(256)
        made += bytes([dice.randrange(256), length]) + value
    return made + dice.choice((b"\xff", b""))


def _texts(dice: random.Random) -> bytes:
    """Return the options that hold text (host name, classes, client id), with text that a log must not obey."""
    evil = (
        b"\x1b[2J",
        b"\n\ndnsmasq-dhcp[1]: 1 DHCPACK(srv0) 10.77.0.101 52:54:00:77:00:01",
        b"%s%n",
        b"../../x",
        b"\xff\x00",
        b"a" * 250,
    )
    return b"".join(
        bytes([kind, len(text)]) + text
        for kind in dice.sample((12, 60, 61, 77, 81, 15), 3)
        for text in [dice.choice(evil)]
    )


def tftp(dice: random.Random, goals: tuple[bytes, ...]) -> bytes:
    """Return a request to a TFTP server: a way out, a write, a lie, or nearly an honest one."""
    kind = dice.randrange(8)
    if kind == 0:
        return dice.randbytes(dice.choice((0, 1, 2, 3, 4, 40, 600, 1400)))
    if kind == 1:
        return struct.pack(">H", dice.choice((0, 3, 4, 5, 6, 7, 65535))) + dice.randbytes(dice.randrange(60))
    code = dice.choice((1, 1, 1, 1, 1, 1, 2))
    name = dice.choice(NAMES) if kind == 2 else _way_out(dice, goals)
    options = b"".join(a + b"\0" + b + b"\0" for a, b in dice.sample(OPTIONS, dice.choice((0, 0, 1, 3))))
    request = (
        struct.pack(">H", code) + name + b"\0" + dice.choice((b"octet", b"octet", *MODES)) + b"\0" + options
    )
    return request[: dice.randrange(len(request))] if kind == 3 else request[:1400]


def _way_out(dice: random.Random, goals: tuple[bytes, ...]) -> bytes:
    goal = dice.choice(goals)
    up = dice.choice(UPS)
    forms = (
        goal,
        up * dice.choice((1, 2, 6)) + goal.lstrip(b"/"),
        b"/" + up * 3 + goal,
        b"//" + goal,
        goal + b"\0.kpxe",
        dice.choice(NAMES) + b"/" + up + goal,
        b"arm64-efi/" + up * 3 + goal,
        b"\\" + goal.replace(b"/", b"\\"),
        b"C:" + goal,
        b"file://" + goal,
        b"~/" + goal,
        b"link",
        b"folder/",
        b".",
        b"..",
        b"/",
        b"",
        b"x" * 1000,
        b"\xff" * 40,
        b"*",
        b"un*",
    )
    return dice.choice(forms)


@cache
def _lines() -> tuple[str, ...]:
    return tuple(line for path in sorted(LOGS.glob("*.log")) for line in path.read_text().splitlines())


def log_line(dice: random.Random) -> str:
    """Return a line of dnsmasq's log, whole or damaged."""
    line = dice.choice(_lines())
    for _ in range(dice.choice((0, 0, 1, 1, 2, 8))):
        place = dice.randrange(len(line) + 1)
        cut = dice.choice((0, 0, 1, 5, len(line)))
        line = line[:place] + dice.choice(("", "", *_EVIL)) + line[place + cut :]
    return line


_EVIL = (
    "\x1b[2J",
    "\r",
    "\0",
    "\u0663",
    "\u2028",
    "\udcff",
    "9" * 5000,
    "256.1.1.1",
    "52:54:00:77:00:01",
    "DHCPACK(srv0) ",
    "ff:ff:ff:ff:ff:ff",
    "(",
    ")",
    ": ",
    "dnsmasq-tftp[1]: ",
    "dnsmasq[1]: started, version ",
    "sent  to ",
    "tags: ",
    "\U0001f4a9",
)
