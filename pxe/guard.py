"""A child of ours that ends another one when we are gone, however we went."""

import subprocess


def guard(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that asks `pid` to end (SIGTERM) when this process is gone.

    The kernel's own way, PR_SET_PDEATHSIG, is cleared when a server gives up root. The shell reads a pipe that
    only we hold open: it ends with us.
    """
    return _guard("-TERM", pid)


def guard_session(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that kills `pid`, which leads a session of its own, and all its children when we are gone."""
    return _guard("-KILL", -pid)


def _guard(number: str, target: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ("/bin/sh", "-c", 'read -r _; kill "$1" "$2"', "firstlight-pxe-guard", number, str(target)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
