"""Clients that download, in a process of their own: `slow` ones in measured steps, `fast` ones all they can.

They throw away what comes inside the kernel (MSG_TRUNC of tcp(7)): the server is measured, not they.
"""

import selectors
import socket
import sys
import time
from collections.abc import Callable, Sequence
from threading import Thread

STEP_BYTES, STEP_SECONDS = 64 * 1024, 0.1
FAST_BYTES = 2**20
CONNECT_SECONDS = 30.0
GOOD = b"HTTP/1.1 200"


def ask(address: str, port: int, path: str) -> socket.socket:
    """Return a connection on which `path` was asked for and well answered; its head is read, its body is not.

    Raises:
        ConnectionError: the answer is no 200.
    """
    speaker = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
    speaker.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and (byte := speaker.recv(1)):
        head += byte
    if not head.startswith(GOOD):
        raise ConnectionError(f"{path}: {head[:80]!r}")
    return speaker


def slow(address: str, port: int, path: str, clients: int) -> None:
    """Read a step from each connection at a time, until stdin ends; print how many broke off or stood still."""
    readers = [ask(address, port, path) for _ in range(clients)]
    got = dict.fromkeys(range(clients), 0)
    buffer = bytearray(STEP_BYTES)
    print("reading", flush=True)
    steps, following = 0, time.monotonic()
    while not _stdin_ended(max(0.0, following - time.monotonic())):
        if time.monotonic() < following:
            continue
        following += STEP_SECONDS
        steps += 1
        for number, reader in enumerate(readers):
            got[number] += _step(reader, buffer)
    # Half of what was asked for: the rest is how late this process was, on a machine that others use too.
    expected = min(steps * STEP_BYTES // 2, max(got.values()) // 2)
    print(sum(amount < expected or amount == 0 for amount in got.values()), flush=True)


def _stdin_ended(seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        return bool(selector.select(seconds)) and not sys.stdin.read(1)


def _step(reader: socket.socket, buffer: bytearray) -> int:
    """Return how many bytes were there, at most a step's; nothing after a connection broke."""
    try:
        return reader.recv_into(buffer, STEP_BYTES, socket.MSG_TRUNC | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0
    except OSError:
        return -STEP_BYTES


def fast(address: str, port: int, path: str, clients: int, seconds: float) -> None:
    """Download again and again with each client in a thread; print the bytes per second of all of them."""
    got = [0] * clients
    end = time.monotonic() + seconds
    began = time.monotonic()

    def run(number: int) -> None:
        buffer = bytearray(FAST_BYTES)
        while time.monotonic() < end:
            with ask(address, port, path) as speaker:
                got[number] += _drain(speaker, buffer, end)

    threads = [Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(got) / (time.monotonic() - began), flush=True)


def _drain(speaker: socket.socket, buffer: bytearray, end: float) -> int:
    """Return the bytes of one download, until it is whole or the time is over."""
    whole = 0
    while time.monotonic() < end:
        count = speaker.recv_into(buffer, FAST_BYTES, socket.MSG_TRUNC)
        whole += count
        if not count:
            break
    return whole


def main(words: Sequence[str]) -> None:
    """Run the kind of client that the command line names."""
    kind, address, port, path, clients, *more = words
    kinds: dict[str, Callable[..., None]] = {"slow": slow, "fast": fast}
    kinds[kind](address, int(port), path, int(clients), *map(float, more))


if __name__ == "__main__":
    main(sys.argv[1:])
