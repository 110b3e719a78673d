"""Connects to unix sockets whose path is longer than the kernel's 108 bytes (unix(7))."""

import os
import socket
from pathlib import Path


def connect(path: Path, timeout_seconds: float) -> socket.socket:
    """Return a connection to the listening socket at `path`; its later operations have the same timeout.

    Raises:
        OSError: nobody listens there, or there is no such socket.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_seconds)
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(folder)
