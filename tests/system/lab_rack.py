"""Two virtual machines without a system, one of each firmware, and words to ask for them."""

import copy
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bootstrap.lab.rack import Rack
from bootstrap.model import Cluster

NAME = f"labtest{os.getpid()}"
NAMESPACE = f"fl-{NAME}"

ALL_BUSES = [
    {"serial": "root", "size": "64MiB"},
    {"serial": "fast", "size": "64MiB", "bus": "nvme"},
    {"serial": "wide", "size": "64MiB", "bus": "scsi"},
]
DOCUMENT: dict[str, Any] = {
    "apiVersion": "firstlight/v1alpha1",
    "kind": "Cluster",
    "metadata": {"name": NAME},
    "kubernetes": {
        "version": "v1.36.4",
        "controlPlaneEndpoint": "10.77.0.10:6443",
        "podSubnet": "10.2.0.0/16",
        "serviceSubnet": "10.3.0.0/16",
    },
    "appliance": {
        "interface": "eth0",
        "address": "10.77.0.1/24",
        "dhcp": {"mode": "server", "range": ["10.77.0.100", "10.77.0.120"]},
    },
    "pools": [
        {
            "name": "workers",
            "os": {"family": "debian", "release": "13"},
            "disk": {"select": {"type": "virtio"}},
        }
    ],
    "lab": {
        "machines": [
            {
                "name": "b1",
                "mac": "52:54:00:fe:00:01",
                "firmware": "bios",
                "memory": "512MiB",
                "disks": ALL_BUSES,
            },
            {
                "name": "u1",
                "mac": "52:54:00:fe:00:02",
                "firmware": "uefi",
                "memory": "512MiB",
                "disks": ALL_BUSES,
            },
        ]
    },
}


def rack_in(work: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Rack:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return Rack(Cluster.model_validate(document), work)


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def pid_of(rack: Rack, name: str) -> int:
    return int((rack.console(name).parent / "qemu.pid").read_text())


def wait_for(question: Callable[[], bool], log: Callable[[], str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, log()
        time.sleep(0.2)
