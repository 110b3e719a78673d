"""Wires that stop half way: proxies on loopback that cut what a peer answers, or swallow it."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.system.power_peers import LOOPBACK

BLOCK = 65536
TICK_SECONDS = 0.1

Cut = Callable[[int, bytes], bytes]
"""Returns what is left of the answer with that number; nothing of it: it is swallowed."""


def half(_: int, answer: bytes) -> bytes:
    """Cut every answer in half."""
    return answer[: len(answer) // 2]


def after(count: int) -> Cut:
    """Return a cut that lets `count` answers through, and swallows the rest."""
    return lambda number, answer: answer if number < count else b""


def half_after(count: int) -> Cut:
    """Return a cut that lets `count` answers through, and cuts the rest in half."""
    return lambda number, answer: answer if number < count else half(number, answer)


@contextmanager
def udp_proxy(upstream: int, cut: Cut) -> Iterator[int]:
    """Yield a UDP port of loopback whose datagrams go to the port `upstream`, and come back as `cut` leaves them."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back,
    ):
        front.bind((LOOPBACK, 0))
        back.connect((LOOPBACK, upstream))
        with _thread(lambda stop: _carry(front, back, cut, stop)):
            yield int(front.getsockname()[1])


def _carry(front: socket.socket, back: socket.socket, cut: Cut, stop: threading.Event) -> None:
    client, number = None, 0
    while not stop.is_set():
        for ready in select.select([front, back], (), (), TICK_SECONDS)[0]:
            if ready is front:
                asked, client = front.recvfrom(BLOCK)
                back.send(asked)
                continue
            left = cut(number, back.recv(BLOCK))
            number += 1
            if left and client:
                front.sendto(left, client)


@contextmanager
def tcp_proxy(upstream: int, length: int, *, hangs: bool) -> Iterator[int]:
    """Yield a TCP port whose connections go to the port `upstream`: `length` bytes come back, then nothing more.

    The connection then stays open and silent if it `hangs`, or is closed.
    """
    with socket.create_server((LOOPBACK, 0)) as server:
        server.settimeout(TICK_SECONDS)
        with _thread(lambda stop: _accept(server, upstream, length, hangs=hangs, stop=stop)):
            yield int(server.getsockname()[1])


def _accept(server: socket.socket, upstream: int, length: int, *, hangs: bool, stop: threading.Event) -> None:
    with contextlib.ExitStack() as open_ones:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                front = open_ones.enter_context(server.accept()[0])
                back = open_ones.enter_context(socket.create_connection((LOOPBACK, upstream)))
                _pass_on(front, back, length, stop)
                if not hangs:
                    front.close()


def _pass_on(front: socket.socket, back: socket.socket, length: int, stop: threading.Event) -> None:
    """Carry both ways until `length` bytes have come back, or one side has ended."""
    while length > 0 and not stop.is_set():
        for ready in select.select([front, back], (), (), TICK_SECONDS)[0]:
            block = ready.recv(BLOCK)
            if not block:
                return
            if ready is front:
                back.sendall(block)
                continue
            front.sendall(block[:length])
            length -= len(block)


@contextmanager
def silent_udp() -> Iterator[int]:
    """Yield a UDP port that takes everything and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind((LOOPBACK, 0))
        yield int(hole.getsockname()[1])


@contextmanager
def silent_tcp() -> Iterator[int]:
    """Yield a TCP port that takes connections and never answers."""
    with socket.create_server((LOOPBACK, 0)) as hole:
        yield int(hole.getsockname()[1])


@contextmanager
def _thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()
