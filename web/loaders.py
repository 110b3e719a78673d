"""Keeps the iPXE loaders for UEFI HTTP boot where nginx sends them from."""

import logging
from pathlib import Path

from bootstrap import loaders
from bootstrap.errors import PreflightError
from bootstrap.model.appliance import Loaders
from bootstrap.render.firmware import HTTP_FOLDER

log = logging.getLogger(__name__)

FOLDER = Path("run") / HTTP_FOLDER

Stamp = tuple[tuple[loaders.Source, int, int], ...]


class HttpLoaders:
    """The loaders in `folder`: copies of what the configuration means, which is looked for again when it changes.

    `cache` holds what was downloaded, `debian` is the folder of the package ipxe.
    """

    def __init__(self, cache: Path, folder: Path = FOLDER, debian: Path = loaders.DEBIAN) -> None:
        self._cache, self._folder, self._debian = cache, folder, debian
        self._stamp: Stamp | None = None
        self._guard: loaders.Guard | None = None
        self._damaged: list[str] = []

    def look(self, configured: Loaders) -> tuple[str, ...]:
        """Place the loaders anew if they or the configuration have changed, else put right what was damaged here.

        Return a sentence about each that was.

        One that is missing, or not what the configuration means, is named in the log and not sent; firmware that asks
        for it hears 404, and goes on with its boot order.

        Raises:
            OSError: one cannot be written.
        """
        wanted = loaders.sources("http", configured, self._cache, self._debian)
        stamp = tuple((source, *_mark(source.path)) for source in wanted)
        if stamp == self._stamp and self._guard is not None:
            self._damaged.clear()
            self._guard.look()
            return tuple(self._damaged)
        for source in loaders.place(self._folder, [source for source in wanted if _is_right(source)]):
            log.info("no loader for %s machines: %s is not there", source.firmware, source.path)
        self._guard = loaders.Guard(self._folder, self._damaged.append)
        self._stamp = stamp
        return ()


def _is_right(source: loaders.Source) -> bool:
    """Return whether `source` can be placed, or is one of those that may be missing."""
    if source.sha256 is None and not source.path.is_file():
        return True
    try:
        loaders.content_of(source)
    except PreflightError as error:
        log.error("UEFI HTTP boot: %s", error)  # noqa: TRY400  # the text is for people: no traceback
        return False
    return True


def _mark(path: Path) -> tuple[int, int]:
    """Return what changes when the file at `path` is replaced."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
