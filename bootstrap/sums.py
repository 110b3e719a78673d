"""The sums of a tree of rendered documents: one flipped bit in any of them is found before it is used.

The file is what `sha256sum --check` reads, and its last line holds its own sum.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bootstrap.errors import ServeError

NAME = "SHA256SUMS"


def text_of(files: Mapping[str, bytes]) -> bytes:
    """Return the file of sums for `files`, contents by path."""
    return text_of_sums({path: sum_of(content) for path, content in files.items()})


def text_of_sums(sums: Mapping[str, str]) -> bytes:
    """Return the file of sums for files whose sums are known, by path."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())).encode()
    return lines + f"# {sum_of(lines)}\n".encode()


class Sums:
    """The sums of the tree in `folder`; those of a tree that has no file of them are not known.

    Raises:
        ServeError: the file of sums is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, str] | None = None
        try:
            text = (folder / NAME).read_bytes()
        except FileNotFoundError:
            return
        if not is_whole(text):
            raise ServeError(f"{folder / NAME} is damaged; run deploy.py render again")
        rows = (line.partition("  ") for line in text.decode().splitlines()[:-1])
        self._known = {path: digest for digest, _, path in rows}

    @property
    def known(self) -> Mapping[str, str] | None:
        """The sums by path; None if the tree has no file of them."""
        return self._known

    def check(self, path: str, content: bytes) -> bytes:
        """Return `content` if it is what belongs at `path`.

        Raises:
            ServeError: it is not.
        """
        if self._known is not None and self._known.get(path) != sum_of(content):
            with suppress(OSError):
                (self._folder / path).touch()  # so that `render`, which looks at times, makes it anew
            raise ServeError(f"{self._folder / path} is damaged or was changed; run deploy.py render again")
        return content

    def read(self, path: str) -> bytes:
        """Return the content of the file at `path`.

        Raises:
            ServeError: it is damaged.
            OSError: it cannot be read.
        """
        return self.check(path, (self._folder / path).read_bytes())


def is_whole(text: bytes) -> bool:
    """Return whether a file of sums is as it was written."""
    lines, _, last = text.removesuffix(b"\n").rpartition(b"\n")
    own = sum_of(lines + b"\n" if lines else b"")
    return text.endswith(b"\n") and last == f"# {own}".encode()


def sum_of(content: bytes) -> str:
    """Return the SHA-256 of `content` in hex."""
    return hashlib.sha256(content).hexdigest()
