"""Ways out of a folder, and ways to hide a request in another one, as they have worked on some server."""

from collections.abc import Iterator

SUM = b"a" * 64
UPS = (
    b"../",
    b"..%2f",
    b"%2e%2e/",
    b"%2e%2e%2f",
    b"%252e%252e%252f",
    b"%25252e%25252e%25252f",
    b"..\\",
    b"..%5c",
    b"..%255c",
    b".%2e/",
    b"%2e./",
    b"..;/",
    b"..;x=y/",
    b"....//",
    b"....\\\\",
    b"%c0%ae%c0%ae/",
    b"..%c0%af",
    b"..%c1%9c",
    b"%e0%80%ae%e0%80%ae/",
    b"..%e0%80%af",
    b"%f0%80%80%ae%f0%80%80%ae/",
    b"..%00/",
    b"..\x00/",
    b"..\x01/",
    b".../",
    b"%uff0e%uff0e/",
    b"..%u2215",
    b"..%09/",
    b"..%20/",
    b"..//",
    b"..//./",
    b"./../",
    b"..\xef\xbc\x8f",
    b"..%ef%bc%8f",
    b"..?/",
    b"..#/",
    b"..%23/",
    b"..%3f/",
    b"x/../../",
    b"%2e%2e%5c",
    b"..%0d%0a/",
)
ROOTS = (
    b"/artifacts/",
    b"/artifacts/sha256/",
    b"/artifacts/sha256/" + SUM + b"/",
    b"/artifacts/sha256/" + SUM,
    b"/",
    b"/v1/ignition/",
    b"//artifacts//sha256//",
    b"/boot.ipxe/",
    b"/localboot.efi/",
    b"/localboot.pxe",
    b"/artifacts",
    b"/ARTIFACTS/sha256/",
    b"/artifacts/sha256/./",
    b"/v1/machine/config/",
    b"/v1/machines/",
    b"/livez/",
)
GOALS = (
    b"canary",
    b"pki/canary",
    b"state/state.db",
    b"pki/provisioning/server.key",
    b"etc/passwd",
    b"images/canary",
    b"bundle/web/nginx.conf",
    b"run/web.pid",
)


def paths() -> list[bytes]:
    """Return request targets that lead out of each route's folder, each once."""
    made = [
        root + up * depth + goal
        for number, root in enumerate(ROOTS)
        for index, up in enumerate(UPS)
        for depth in (1, 3, 8)
        for goal in (GOALS[(number + index + depth) % len(GOALS)], b"canary")
    ]
    return list(dict.fromkeys(made))


def plants() -> list[bytes]:
    """Return targets that name a link or a folder in the store, a name that is none, and what lies beside it."""
    sums = [bytes([digit]) * 64 for digit in b"12345"]
    return [
        *[b"/artifacts/sha256/" + name for name in sums],
        *[b"/artifacts/sha256/" + name + b"/canary" for name in sums],
        *[b"/artifacts/sha256/" + name + b"/" for name in sums],
        b"/artifacts/sha256/link",
        b"/artifacts/sha256/",
        b"/artifacts/sha256",
        b"/artifacts/",
        b"/artifacts",
        b"/artifacts/images/debian-13-cloud.json",
        b"/artifacts/images/canary",
        b"/artifacts/canary",
        b"/artifacts/sha256/" + b"A" * 64,
        b"/artifacts/sha256/" + b"0" * 64,
        b"/artifacts/sha256/" + b"a" * 65,
        b"/artifacts/sha256/" + b"a" * 63,
        b"/artifacts/sha256/" + b"1" * 64 + b"%00",
        b"/artifacts/sha256/" + b"1" * 64 + b"%0a",
        b"/artifacts/sha256/" + b"1" * 64 + b".",
        b"/artifacts/sha256/" + b"1" * 64 + b"%20",
        b"/run/canary",
        b"/run/artifacts/canary",
        b"/bundle/web/nginx.conf",
        b"/bundle/canary",
        b"/state/state.db",
        b"/canary",
        b"/.git/config",
        b"/localboot.efi.new",
        b"/loader/",
        b"/loader/none",
        b"/loader/autoexec.ipxe",
        b"/artifacts/sha256/.unfinished-x",
        b"/artifacts/damaged/" + b"1" * 64,
    ]


def whole(target: bytes) -> bytes:
    """Return a plain request for `target`, not tidied up."""
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def odd_requests() -> Iterator[bytes]:
    """Yield requests that are odd in something other than their path."""
    out = b"/artifacts/sha256/../../pki/canary"
    tail = b"Host: x\r\nConnection: close\r\n\r\n"
    hidden = b"GET /v1/machines HTTP/1.1\r\nHost: x\r\nX-Firstlight-Listener: operator\r\n\r\n"
    for form in (
        b"http://x" + out,
        b"file:///etc/passwd",
        b"http://127.0.0.1/v1/machines",
        b"x:443",
        b"*",
        b"/\\..\\canary",
        b"",
    ):
        for method in (b"GET", b"HEAD", b"CONNECT", b"OPTIONS", b"TRACE", b"PROPFIND", b"get", b"G\x00T"):
            yield method + b" " + form + b" HTTP/1.1\r\n" + tail
    for version in (b"", b" HTTP/0.9", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/9.9", b" HTP/1.1", b" HTTP/1.1 x"):
        yield b"GET " + out + version + b"\r\n" + tail
        yield b"GET /artifacts/sha256/" + b"1" * 64 + version + b"\r\n" + tail
    for length in (2_000, 9_000, 70_000):
        yield whole(b"/artifacts/sha256/" + b"../" * (length // 3) + b"canary")
        yield whole(b"/" + b"a" * length)
        yield b"GET /ipxe HTTP/1.1\r\nX-Long: " + b"a" * length + b"\r\n" + tail
    for header in (
        b"X-Accel-Redirect: /canary",
        b"X-Original-URL: " + out,
        b"X-Rewrite-URL: " + out,
        b"Range: bytes=-1",
        b"Range: bytes=0-,1-,2-",
        b"Range: bytes=" + b"0-0," * 1000,
        b"Host: ../../pki",
        b"Upgrade: h2c",
    ):
        yield b"GET /artifacts/sha256/" + b"1" * 64 + b" HTTP/1.1\r\n" + header + b"\r\n" + tail
        yield b"GET " + out + b" HTTP/1.1\r\n" + header + b"\r\n" + tail
    yield from smuggled(hidden)
    for split in (
        b"/ipxe%0d%0aX-Firstlight-Listener:%20operator",
        b"/ipxe\r\nX-Firstlight-Listener: operator",
        b"/ipxe\nX: y",
        b"/ipxe?mac=%0d%0aSet-Cookie:x",
        b"/ipxe HTTP/1.1\r\nX-Firstlight-Listener: operator\r\nX: ",
    ):
        yield whole(split)


def smuggled(hidden: bytes) -> Iterator[bytes]:
    """Yield requests that two servers could cut at different places, with one for the operator inside."""
    size = str(len(hidden)).encode()
    pairs = (
        b"Content-Length: 0\r\nContent-Length: " + size,
        b"Content-Length: " + size + b"\r\nContent-Length: 0",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Content-Length: " + size + b"\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: \x0bchunked",
        b"Content-Length: +0",
        b"Content-Length: -1",
        b"Content-Length: 0x10",
        b"Content-Length: 0 0",
        b"Content-Length: " + b"9" * 30,
        b"Content-Length:",
        b" Content-Length: 3",
        b"X: y\r\n Content-Length: 0",
    )
    for pair in pairs:
        for start in (b"GET /ipxe", b"POST /v1/machine/events", b"GET /artifacts/sha256/" + SUM):
            yield start + b" HTTP/1.1\r\nHost: x\r\n" + pair + b"\r\n\r\n0\r\n\r\n" + hidden
