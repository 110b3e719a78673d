"""Requests to every route, from nearly right to nonsense, as raw bytes from seeded random numbers."""

import json
import random
from collections.abc import Callable
from urllib.parse import quote

from tests.unit.hostile.attributes import PIECES
from tests.unit.web.fakes import W1, W2

ROUTES = (
    ("plain", "GET", "/boot.ipxe"),
    ("plain", "GET", "/ipxe"),
    ("plain", "GET", f"/v1/ignition/{W1}"),
    ("plain", "GET", "/livez"),
    ("plain", "GET", "/readyz"),
    ("plain", "GET", "/artifacts/sha256/" + "0" * 64),
    ("plain", "GET", "/localboot.efi"),
    ("tls", "POST", "/v1/machine/begin"),
    ("tls", "POST", "/v1/machine/events"),
    ("tls", "POST", "/v1/machine/events"),
    ("tls", "GET", "/v1/machine/config"),
    ("tls", "POST", "/v1/pxe/events"),
    ("operator", "GET", "/metrics"),
    ("operator", "GET", "/v1/machines"),
    ("operator", "GET", "/v1/machines/w1"),
    ("operator", "POST", "/v1/machines/w2/arm"),
    ("operator", "POST", "/v1/machines/w9/retire"),
    ("operator", "GET", "/v1/events"),
    ("operator", "POST", "/v1/reload"),
    ("operator", "GET", "/"),
)
"""Each route with the listener and the method that it has."""
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "FOO", "get", "")
TYPES = (
    "application/json",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-16",
    "",
    "x" * 300,
    "\xff",
)
ARM = "00000000-0000-4000-8000-000000000001"
KINDS = (
    "facts",
    "progress",
    "complete",
    "already-installed",
    "attempt-failed",
    "failed",
    "booted",
    "discover",
    "x",
)


def request(dice: random.Random) -> tuple[str, bytes]:
    """Return a listener and one request for it: two thirds of them are where they belong."""
    listener, method, path = dice.choice(ROUTES)
    if dice.random() < 0.15:
        listener = dice.choice(("plain", "tls", "operator"))
    if dice.random() < 0.15:
        method = dice.choice(METHODS)
    target = path + dice.choice(("", _query(dice), _query(dice), "/" + dice.choice(PIECES)))
    body = dice.choice(BODIES)(dice) if method in {"POST", "PUT", "PATCH"} else b""
    headers = [b"Host: x", b"Connection: close", *_headers(dice)]
    if body or dice.random() < 0.2:
        headers.append(b"Content-Length: %d" % _length(len(body), dice))
    where = quote(target, safe="/?&=:[]", errors="replace") if dice.random() < 0.9 else _bare(target)
    return listener, b"%s %s HTTP/1.1\r\n%s\r\n\r\n%s" % (
        method.encode(),
        where.encode("utf-8", "replace"),
        b"\r\n".join(headers),
        body,
    )


def _bare(target: str) -> str:
    return target.replace(" ", "%20").replace("\n", "%0a").replace("\r", "%0d")


def _length(true: int, dice: random.Random) -> int:
    """Return the length to claim: less than there is, mostly the truth; more would only wait for the time limit."""
    return true if dice.random() < 0.95 else dice.randrange(true + 1)


def _headers(dice: random.Random) -> list[bytes]:
    pool = (
        b"Content-Type: " + dice.choice(TYPES).encode("latin-1"),
        b"Accept-Encoding: gzip, br",
        b"Expect: 100-continue",
        b"If-None-Match: " + dice.choice((b"*", b'"x"', b'W/"x", "y"', b'"', b"\xff")),
        b"If-Modified-Since: " + dice.choice((b"Thu, 01 Jan 1970 00:00:00 GMT", b"never", b"9" * 40)),
        b"Range: bytes=" + dice.choice((b"0-0", b"-1", b"5-1", b"x", b"0-" + b"9" * 30)),
        b"Cookie: " + b"a=b; " * 50,
        b"X-Firstlight-Listener: operator",
        b"X-Firstlight-Client: firstlight:pxe",
        b"X-Forwarded-For: 127.0.0.1",
        b"X-HTTP-Method-Override: DELETE",
        b"Authorization: Basic \xff",
    )
    return dice.sample(pool, dice.choice((0, 0, 0, 0, 1, 1, 4)))


def _query(dice: random.Random) -> str:
    names = ("mac", "arm", "platform", "uuid", "serial", "after", "machine", "x", "", "mac[]")
    values = (W1, W2, W1.upper(), ARM, "efi", "unknown", "w1", "-1", "9" * 40, "\u0660", *PIECES)
    return "?" + "&".join(
        f"{dice.choice(names)}={dice.choice(values)}" for _ in range(dice.choice((0, 1, 2, 5)))
    )


def _value(dice: random.Random, depth: int = 0) -> object:
    kinds: tuple[Callable[[], object], ...] = (
        lambda: dice.choice(PIECES),
        lambda: dice.choice((0, -1, 2**63, 2**64, 10**400, 0.5, True, None, "", "1", W1, ARM)),
        lambda: [_value(dice, depth + 1) for _ in range(dice.randrange(4))] if depth < 4 else [],
        lambda: {dice.choice(PIECES): _value(dice, depth + 1) for _ in range(3)} if depth < 4 else {},
    )
    return dice.choice(kinds)()


def _nearly(dice: random.Random) -> bytes:
    """Return a report or the like, with some of its values wrong."""
    disk = {
        "path": "/dev/vda",
        "serial": "s",
        "wwn": None,
        "model": None,
        "size": 8 << 30,
        "byPath": ["x"],
        "type": "virtio",
    }
    said: dict[str, object] = {
        "mac": W1,
        "arm": ARM,
        "kind": dice.choice(KINDS),
        "stage": "write",
        "percent": 40,
        "message": "m",
        "nonce": "a1",
        "facts": {"firmware": "uefi", "cpus": 2, "memory": 1 << 31, "disks": [disk]},
        "disk": disk,
        "address": "10.77.0.5",
        "sshHostKeys": ["ssh-ed25519 " + "A" * 60],
        "detail": "d",
        "arch": 7,
    }
    for name in dice.sample(sorted(said), dice.choice((0, 1, 1, 2))):
        said[name] = _value(dice)
    whole: object = [said] * dice.choice((1, 3)) if dice.random() < 0.3 else said
    return json.dumps(whole, ensure_ascii=dice.random() < 0.5).encode("utf-8", "replace")


def _mutated(dice: random.Random) -> bytes:
    body = bytearray(_nearly(dice))
    for _ in range(dice.choice((1, 1, 5))):
        body[dice.randrange(len(body))] = dice.randrange(256)
    return bytes(body)


BODIES: tuple[Callable[[random.Random], bytes], ...] = (
    _nearly,
    _nearly,
    _mutated,
    lambda dice: json.dumps(_value(dice)).encode(),
    lambda dice: dice.randbytes(dice.choice((0, 1, 50, 5000))),
    lambda dice: b"[" * dice.choice((30, 5000, 60_000)),
    lambda dice: dice.choice(
        (b"NaN", b"1e999", b'"\\ud800"', b"\xef\xbb\xbf{}", b'{"mac":1,"mac":2}', b"9" * 5000, b"\x00")
    ),
    lambda dice: b'{"a":' * dice.choice((20, 3000)),
)
