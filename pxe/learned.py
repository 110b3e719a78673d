"""Remembers which machines never answered when their TFTP options were granted, across restarts of pxe.

Anyone may send requests under any MAC: machines that the configuration lists are kept whatever comes, of all others
the newest few.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from bootstrap.model import mac_from
from pxe.files import write

log = logging.getLogger("pxe")

MOST_UNLISTED = 256
KEPT_SECONDS = 90 * 86_400  # of unlisted ones: firmware is exchanged, and addresses are given to others
_LINE = re.compile(r"(?P<time>\d{1,12}) (?P<who>[0-9a-f:.]{7,17})")

Who = str | IPv4Address
"""A machine: its MAC, or its address if it is behind a router, where its own MAC does not reach us."""


class Learned:
    """The machines, in `file`; `listed` are those of the configuration, `clock` gives seconds since the epoch."""

    def __init__(
        self, file: Path, listed: Collection[Who], clock: Callable[[], float], most: int = MOST_UNLISTED
    ) -> None:
        self._file = file
        self._listed = frozenset(listed)
        self._clock = clock
        self._most = most
        self._since: dict[Who, int] = {}  # the newest last

    def load(self) -> None:
        """Take over what an earlier pxe wrote; a torn or strange line costs itself alone."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._file.read_text(errors="replace").splitlines():
                match = _LINE.fullmatch(line)
                if match and (who := who_from(match["who"])) is not None:
                    self._since[who] = int(match["time"])
        self._tidy()

    def add(self, who: Who) -> bool:
        """Remember `who`; return whether that is new."""
        is_new = who not in self._since
        self._since.pop(who, None)
        self._since[who] = int(self._clock())
        self._tidy()
        self._write()
        return is_new

    def all(self) -> tuple[Who, ...]:
        """Return them, the newest last."""
        return tuple(self._since)

    def _tidy(self) -> None:
        """Let unlisted ones go that are old or too many."""
        now = self._clock()
        unlisted = [who for who in self._since if who not in self._listed]
        kept = {who for who in unlisted[-self._most :] if now - self._since[who] <= KEPT_SECONDS}
        self._since = {w: at for w, at in self._since.items() if w in self._listed or w in kept}

    def _write(self) -> None:
        try:
            write(self._file, text_of(self._since), 0o600)
        except OSError as error:
            text = "%s cannot be written (%s): what is learned about TFTP is forgotten with a restart"
            log.error(text, self._file, error.strerror)  # noqa: TRY400  # the text is for people: no traceback


def who_from(text: str) -> Who | None:
    """Return the MAC or address in `text`, None if it is neither."""
    try:
        return mac_from(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None


def text_of(since: Mapping[Who, int]) -> str:
    """Return the lines of the file: when it was learned, and of whom."""
    return "".join(f"{at} {who}\n" for who, at in since.items())
