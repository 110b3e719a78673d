"""A machine's serial console: joins it to this terminal, and reads back what it said."""

import os
import re
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab import unix

LEAVE = b"\x1d"
"""Ctrl-], as in telnet and virsh console."""

CHUNK = 4096
CONNECT_SECONDS = 5.0
TAIL_BYTES = 64 * 1024

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_a-z])")
"""An ANSI control sequence (ECMA-48, 5.4), an operating system command, or a single escape."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def attach(path: Path, *, keyboard: int | None = None, screen: int | None = None) -> None:
    """Join the console socket at `path` to the terminal until Ctrl-] is typed or the machine is switched off.

    `keyboard` and `screen` are file descriptors, by default stdin and stdout.

    Raises:
        LabError: the machine is off.
    """
    keyboard = sys.stdin.fileno() if keyboard is None else keyboard
    screen = sys.stdout.fileno() if screen is None else screen
    try:
        connection = unix.connect(path, CONNECT_SECONDS)
    except OSError as error:
        raise LabError(f"no machine answers at {path}: is it switched on? ({error.strerror})") from error
    with connection, _raw(keyboard):
        _join(connection, keyboard, screen)


@contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    """Pass every key on, Ctrl-C too; what is no terminal (a pipe) stays as it is."""
    if not os.isatty(keyboard):
        yield
        return
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _join(connection: socket.socket, keyboard: int, screen: int) -> None:
    while True:
        ready, _, _ = select.select([connection.fileno(), keyboard], [], [])
        if connection.fileno() in ready:
            said = _received(connection)
            if not said:
                return
            _write(screen, said)
        if keyboard in ready:
            typed = os.read(keyboard, CHUNK)
            before, leave, _ = typed.partition(LEAVE)
            connection.sendall(before)
            if leave or not typed:
                return


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(CHUNK)
    except ConnectionResetError:
        return b""


def _write(screen: int, content: bytes) -> None:
    while content:
        content = content[os.write(screen, content) :]


def tail(log: Path, lines: int = 20) -> str:
    """Return the last `lines` lines of a console's log as plain text: firmware paints, people read.

    A log that is not there is an empty one.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            painted = file.read()
    except FileNotFoundError:
        return ""
    return "\n".join(plain(painted).splitlines()[-lines:])


def plain(painted: bytes) -> str:
    """Return console output without control sequences and empty lines, with backspaces carried out."""
    text = _SEQUENCE.sub("", painted.decode(errors="replace")).replace("\r", "\n")
    rows = (_CONTROL.sub("", _erased(row)).rstrip() for row in text.split("\n"))
    return "\n".join(row for row in rows if row)


def _erased(row: str) -> str:
    """Carry out the backspaces of one row."""
    kept: list[str] = []
    for character in row:
        if character != "\b":
            kept.append(character)
        elif kept:
            kept.pop()
    return "".join(kept)
