"""The wish to end, from a signal, in a form that every wait of this process can listen to."""

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Self


class Stop:
    """Set once, by SIGTERM or SIGINT or `ask`; its file descriptor is readable from then on."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._is_asked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._reader

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as the wish to end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def ask(self) -> None:
        """Wish the end."""
        if not self._is_asked:
            self._is_asked = True
            os.write(self._writer, b"x")

    def is_asked(self) -> bool:
        """Return whether the end is wished."""
        return self._is_asked

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the wish, at most `timeout_seconds`; return whether it came."""
        select.select([self], [], [], timeout_seconds)
        return self._is_asked

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.ask()
