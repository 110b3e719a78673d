"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path


def write(path: Path, text: str, mode: int) -> None:
    """Put `text` at `path` in one step; a reader sees the old content or the new.

    Raises:
        OSError: the folder is not there, or the disk does not take it; what was at `path` is still there.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
