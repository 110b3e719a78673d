from typing import Any

import pytest

from bootstrap.model import Cluster

DOCUMENT: dict[str, Any] = {
    "apiVersion": "firstlight/v1alpha1",
    "kind": "Cluster",
    "metadata": {"name": "lab"},
    "kubernetes": {
        "version": "v1.36.4",
        "controlPlaneEndpoint": "10.77.0.10:6443",
        "podSubnet": "10.2.0.0/16",
        "serviceSubnet": "10.3.0.0/16",
    },
    "appliance": {
        "interface": "eth0",
        "address": "10.77.0.1/24",
        "dhcp": {"mode": "server", "range": ["10.77.0.100", "10.77.0.199"]},
    },
    "pools": [
        {
            "name": "workers",
            "os": {"family": "debian", "release": "13"},
            "disk": {"select": {"type": "virtio"}},
        }
    ],
    "machines": [
        {"name": "w1", "mac": "52:54:00:aa:00:01", "pool": "workers"},
        {"name": "w2", "mac": "52:54:00:aa:00:02", "pool": "workers"},
    ],
    "lab": {
        "machines": [
            {"name": "w1", "firmware": "bios", "disks": [{"serial": "virtio-w1-root", "size": "8GiB"}]},
            {
                "name": "w2",
                "firmware": "uefi",
                "cpus": 4,
                "memory": "3GiB",
                "disks": [
                    {"serial": "nvme-w2", "size": "8GiB", "bus": "nvme"},
                    {"serial": "scsi-w2-a", "size": "1GiB", "bus": "scsi"},
                    {"serial": "scsi-w2-b", "size": "1GiB", "bus": "scsi"},
                ],
            },
        ]
    },
}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.model_validate(DOCUMENT)


@pytest.fixture
def document() -> dict[str, Any]:
    return DOCUMENT
