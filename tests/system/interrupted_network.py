"""Build the lab's network at the argument's namespace, with a Ctrl-C for all of us inside pyroute2's first fork."""

import os
import signal
import sys
import time
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from pyroute2 import process

from bootstrap.lab import network

forked = process.wrapper


def interrupted(*arguments: Any) -> None:
    """Send what a terminal sends, to the whole foreground group, and give everybody time to hear it."""
    os.killpg(0, signal.SIGINT)
    time.sleep(0.5)
    forked(*arguments)


def main() -> None:
    """Say how it ended; taking back takes its time."""
    process.wrapper = interrupted
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wire = network.Network(
        namespace=sys.argv[1], bridge="fl0", address=IPv4Interface("10.77.0.1/24"), owner=Path(sys.argv[2])
    )
    try:
        network.build(wire, ["tap0"])
    except KeyboardInterrupt:
        os.write(1, b"taking back\n")
        time.sleep(1)
        network.remove(wire)
        os.write(1, b"taken back\n")


main()
