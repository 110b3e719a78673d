"""A program of bpf(4) in the kernel, which drops what a packet socket is not to hear."""

import ctypes
import socket
import struct
from collections.abc import Sequence

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
LONGEST_FRAME = 65_535
LDH, LDB, LD_X, LDH_X, LDX_IP_HEADER = (
    0x28,
    0x30,
    0x40,
    0x48,
    0xB1,
)  # linux/filter.h, with absolute and indexed places
JEQ, JGT, JGE, JSET, RETURN = 0x15, 0x25, 0x35, 0x45, 0x06

Instruction = tuple[int, int, int, int]
"""Code, how many to skip if it holds, how many if not, and its number (struct sock_filter)."""


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Have the kernel run `program` on each packet for `sock`."""
    code = b"".join(struct.pack("@HBBI", *instruction) for instruction in program)
    keep = ctypes.create_string_buffer(code)
    fprog = struct.pack("@HP", len(program), ctypes.addressof(keep))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
