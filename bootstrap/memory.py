"""Files that have no place on any disk, for libraries that take keys by path alone."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def in_memory(content: bytes) -> Iterator[str]:
    """Yield the path of a file with `content` that only this process can open, as long as the `with` lasts."""
    descriptor = os.memfd_create("firstlight", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
