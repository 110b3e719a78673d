"""Lets dnsmasq keep up with a whole rack on a busy computer: before others on the processor, a deep queue of packets.

Each of both is a help, not a need: in a container that may not do it, dnsmasq serves as well as it can.
"""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator

from pxe import ports

NICENESS = -10  # it needs little of the processor, and a machine's firmware waits for it
READER_NICENESS = -5  # dnsmasq in turn waits for who reads its log
QUEUE_BYTES = (
    4 << 20
)  # per socket; the usual 208 KiB hold some 160 packets, 0.2 s of a rack that is powered on
DHCP_PORTS = (67, 4011)
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_PIDFD_GETFD = 438  # the same number on every architecture (Linux 5.6)
_libc = ctypes.CDLL(None, use_errno=True)


def prefer(pid: int, niceness: int = NICENESS) -> bool:
    """Let `pid` run before the rest; return whether that was allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    except OSError:
        return False
    return True


def prefer_session(pid: int, niceness: int = NICENESS) -> bool:
    """Let all of the session of `pid` run before other sessions; return whether that was allowed.

    Linux shares the processor among sessions first (sched_autogroup): there, the niceness of a process counts only
    against those of its own session.
    """
    try:
        (ports.PROC / str(pid) / "autogroup").write_text(f"{niceness}\n")
    except OSError:
        return False
    return True


def deepen_queues(pid: int) -> int:
    """Give the DHCP sockets of `pid` room for a storm; return how many sockets have it now.

    dnsmasq has no option for it. The kernel lets root take a second descriptor of another's socket.
    """
    done = 0
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            for number in ports.descriptors_on(pid, DHCP_PORTS):
                done += _deepen(pidfd, number)
        finally:
            os.close(pidfd)
    return done


def _deepen(pidfd: int, number: int) -> bool:
    with contextlib.suppress(OSError), _borrowed(pidfd, number) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)  # up to net.core.rmem_max
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, QUEUE_BYTES)
        return True
    return False


@contextlib.contextmanager
def _borrowed(pidfd: int, number: int) -> Iterator[socket.socket]:
    descriptor = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    with socket.socket(fileno=descriptor) as sock:
        yield sock
