"""Listens to TFTP on the wire, beside the servers that speak it."""

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address

from pxe import bpf
from pxe.probe import ETH_P_ALL
from pxe.transfers import TAP, Packet, packet_in

log = logging.getLogger("pxe")

QUEUE_BYTES = 1 << 20
PAUSE_SECONDS, END_SECONDS = 5.0, 1.0


class Tap:
    """Hands each TFTP packet between `address` and a machine to `take`, from a thread of its own."""

    def __init__(self, interface: str, address: IPv4Address, take: Callable[[Packet], None]) -> None:
        self._interface, self._address, self._take = interface, address, take
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tftp-tap", daemon=True)

    def start(self) -> None:
        """Listen from now on.

        Raises:
            OSError: a packet socket is refused, or the interface is gone.
        """
        self._socket = _opened(self._interface)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._end.set()
        if self._thread.is_alive():
            os.eventfd_write(self._wake, 1)
            self._thread.join(END_SECONDS)

    def _run(self) -> None:
        with self._socket:
            while not self._end.is_set():
                try:
                    self._hear()
                except OSError as error:
                    log.warning("TFTP on %s is not listened to: %s", self._interface, error)
                    self._end.wait(PAUSE_SECONDS)
                except Exception:
                    # The thread is the only one of its kind: whatever went wrong, the next packet is to be heard.
                    log.exception("a TFTP packet could not be taken")

    def _hear(self) -> None:
        number = self._socket.fileno()
        readable, _, _ = select.select([number, self._wake], [], [])
        frame = self._socket.recv(bpf.LONGEST_FRAME) if number in readable else b""
        if packet := packet_in(frame, self._address):
            self._take(packet)


def _opened(interface: str) -> socket.socket:
    """Return a packet socket; only one for all protocols hears what this computer itself sends (packet(7))."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # hears nothing until it is bound
    try:
        bpf.attach(made, TAP)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
        made.bind((interface, ETH_P_ALL))
    except OSError:
        made.close()
        raise
    return made
