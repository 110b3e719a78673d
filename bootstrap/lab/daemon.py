"""Goes to the background, as QEMU does: for the lab's own small servers, each a process of its own."""

import os
from pathlib import Path


def to_background(pid_file: str) -> bool:
    """Fork; return True in the child, which has no terminal, no open standard files, and `/` as its folder.

    In the parent it returns False once the child's pid is in `pid_file`; what the child is to need, sockets say, must
    be open by then, so that whoever started the parent knows when it has ended that the server serves.
    """
    pid = os.fork()
    if pid:
        Path(pid_file).write_text(f"{pid}\n")
        return False
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    return True
