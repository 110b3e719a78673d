"""Clusters with addons for tests, and a folder of documents of one's own."""

from typing import Any

from pydantic import TypeAdapter

from bootstrap.adding.rendering import Given
from bootstrap.kubernetes.releases import RELEASES
from bootstrap.model import Cluster
from bootstrap.model.addons import Addon
from tests import samples

VERSIONS = tuple("v1.20.2" if minor == 20 else f"v1.{minor}.1" for minor in RELEASES)
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
DOCUMENT = (
    b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: site, namespace: default}\ndata: {greeting: hello}\n"
)
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "coredns": [{}, {"replicas": 1, "upstream": ["192.168.1.1", "192.168.1.2"]}],
    "dcgm-exporter": [{}],
    "gpu-feature-discovery": [{}],
    "ingress": [{}, {"replicas": 1, "defaultClass": False}],
    "manifests": [{"directory": "site"}],
    "metallb": [{"addresses": ["192.168.1.241-192.168.1.250", "192.168.2.0/28"]}],
    "metrics-server": [{}],
    "nfs-provisioner": [
        {"server": "192.168.1.5", "path": "/nfsroot"},
        {
            "server": "nas.lan",
            "path": '/a folder: "of" #mine',
            "storageClass": "slow",
            "defaultClass": False,
            "fsType": "nfs4",
            "mountOptions": ["hard"],
            "onDelete": "retain",
            "volumes": [{"name": "data", "path": "/data", "size": "100GiB", "readOnly": True}],
        },
        {
            "server": "192.168.1.5",
            "path": "/nfsroot",
            "dynamic": False,
            "volumes": [
                {"name": "data", "path": "/d", "size": "1GiB"},
                {"name": "more", "path": "/m", "size": 2**30},
            ],
        },
    ],
    "nvidia-device-plugin": [{}, {"migStrategy": "mixed"}, {"replicas": 4}],
}
"""For each addon, options with which it is rendered in every supported minor."""
CASES = tuple((name, options) for name, choices in OPTIONS.items() for options in choices)
GIVEN = Given(kubelet_ca=CA, folders={"site": (("site/10.yaml", DOCUMENT),)})


def cluster_with(*addons: Any, version: str = "v1.36.4", sample: str = "example") -> Cluster:
    """Return a sample with these addons and no others, of a version of Kubernetes."""
    base = samples.cluster(sample)
    chosen = TypeAdapter(tuple[Addon, ...]).validate_python(addons)
    kubernetes = base.kubernetes.model_copy(update={"version": version})
    return base.model_copy(update={"addons": chosen, "kubernetes": kubernetes})
