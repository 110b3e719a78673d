"""`python -m bootstrap.containers.health pxe|web`: exit 0 if what runs in this container serves, else 1."""

import sys
from pathlib import Path

from bootstrap.containers.table import WORK
from bootstrap.operator import Operator
from bootstrap.processes import is_answering_dhcp


def is_healthy(name: str, work: Path = Path(WORK)) -> bool:
    """Return whether dnsmasq serves (pxe), or nginx and the application behind it answer (web)."""
    return is_answering_dhcp(work) if name == "pxe" else Operator(work).is_alive()


if __name__ == "__main__":
    sys.exit(0 if is_healthy(sys.argv[1]) else 1)
