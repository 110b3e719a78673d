"""Takes dnsmasq's log out of its pipe at once, whatever else this process is busy with.

dnsmasq answers nobody while it waits for room in that pipe, and a storm fills it in half a second.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger("pxe")

PIPE_BYTES = 1 << 20  # what /proc/sys/fs/pipe-max-size usually allows: the lines of 500 packets
MOST_BYTES = (
    64 << 20
)  # that wait to be understood: the lines of 30,000 packets; then whole chunks are given up
GATHER_SECONDS = 0.01  # a reader that is woken by each line would cost dnsmasq the processor
JOIN_SECONDS = 5.0


class Pipe:
    """A pipe whose `writer` is for a child process; `output` is a descriptor to poll.

    `first` sees every chunk before all else, in a thread of its own.
    """

    def __init__(self, first: Callable[[bytes], None]) -> None:
        self._first = first
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # an unprivileged user may be held to less
            fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.output = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._lost = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._drain, name="log", daemon=True)

    def start(self) -> None:
        """Close the own copy of `writer` and begin to read; the child has its copy by now."""
        os.close(self.writer)
        self._thread.start()

    def take(self) -> bytes:
        """Return the oldest bytes that nobody took yet, or none."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.output)
        with self._lock:
            lost, self._lost = self._lost, 0
            chunk = self._chunks.popleft() if self._chunks else b""
            self._waiting -= len(chunk)
        if lost:
            log.warning("%d bytes of dnsmasq's log were given up: it writes faster than we can read", lost)
        return chunk

    def wait_for_end(self) -> None:
        """Wait until all is read; call it when the child is gone."""
        self._thread.join(JOIN_SECONDS)

    def close(self) -> None:
        """Close what polls; the thread closes the rest."""
        os.close(self.output)

    def _drain(self) -> None:
        while chunk := os.read(self._reader, PIPE_BYTES):
            self._first(chunk)
            self._put(chunk)
            time.sleep(GATHER_SECONDS)
        os.close(self._reader)

    def _put(self, chunk: bytes) -> None:
        with self._lock:
            if self._waiting + len(chunk) > MOST_BYTES:
                self._lost += len(chunk)
                return
            self._chunks.append(chunk)
            self._waiting += len(chunk)
        with contextlib.suppress(OSError):  # nobody polls any more
            os.eventfd_write(self.output, 1)
