"""nginx as a child: its folders, its command, when it must read its files again, and whether it answers."""

import os
import socket
from pathlib import Path

from bootstrap.sums import Sums

OPERATOR_SOCKET = Path("run/operator.sock")
CONFIG = Path("bundle/web/nginx.conf")
# nginx opens these as root once; a renewed certificate or a changed port is seen after SIGHUP only.
WATCHED = (
    CONFIG,
    Path("pki/provisioning/server.crt"),
    Path("pki/provisioning/server.key"),
    Path("bundle/appliance/provisioning-ca.crt"),
)
PROBE_SECONDS = 1.0

COMMAND = ("nginx", "-p", ".", "-c", str(CONFIG), "-e", "stderr")


def prepare(cache: Path) -> None:
    """Make what nginx expects in the work folder, which is the current one.

    A socket file of a killed nginx is removed: the next one could not bind to it.

    Raises:
        ServeError: nginx.conf is not what was rendered.
    """
    Sums(CONFIG.parents[1]).read("web/nginx.conf")
    for folder in ("run", "log"):
        Path(folder).mkdir(mode=0o700, exist_ok=True)
    OPERATOR_SOCKET.unlink(missing_ok=True)
    _link(Path("run/artifacts"), cache)


def _link(link: Path, target: Path) -> None:
    (target / "sha256").mkdir(mode=0o700, parents=True, exist_ok=True)
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def stamp() -> tuple[int, ...]:
    """Return what changes when a file that nginx reads at its start is replaced."""
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in WATCHED)


def is_up() -> bool:
    """Return whether nginx accepts connections on the operator's socket (below the current folder)."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PROBE_SECONDS)
            connection.connect(str(OPERATOR_SOCKET))
    except OSError:
        return False
    return True
