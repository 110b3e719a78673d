"""Paths in a configuration of several files: each begins in the folder of the file that it is written in."""

from pathlib import PurePath
from typing import Self


class WrittenIn(str):
    """Text of a file whose folder is not the one where paths begin; `folder` leads there from that one."""

    __slots__ = ("folder",)

    folder: str

    def __new__(cls, text: str, folder: str) -> Self:
        """Return `text`, which knows its folder."""
        made = super().__new__(cls, text)
        made.folder = folder
        return made


def from_base(path: object) -> object:
    """Return `path` so that it means the same file from the folder where paths begin; anything else as it is."""
    return str(PurePath(path.folder, path)) if isinstance(path, WrittenIn) else path
