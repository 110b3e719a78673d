"""Takes this process into the network of a rack."""

import ctypes
from pathlib import Path

CLONE_NEWNET = 0x40000000  # setns(2)


def enter(namespace: Path) -> None:
    """Have this thread, and the sockets that it makes from now on, belong to a network namespace.

    Raises:
        OSError: there is no such namespace, or we are not root.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open("rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
