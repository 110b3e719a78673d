"""A rack with a pool of GPUs: nodes that have joined tell of them, signed with their own keys."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.test import TestResponse

from bootstrap.gpu.taint import TAINT
from bootstrap.kubernetes.seen import NodeMarks
from bootstrap.model import Cluster
from tests.unit.certs import crafted
from tests.unit.gpu.reports import report
from tests.unit.web.fakes import W1, cluster
from tests.unit.web.joining import JoiningRack, csr, view
from web.approver import Approver
from web.gate import Gate

FLATCAR = {"family": "flatcar", "release": "4593.2.5"}
OTHER = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}


def gpu_cluster(**gpu: Any) -> Cluster:
    """Return a cluster whose pool `workers` has this `gpu:` section."""
    document = cluster(hosts=1).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["pools"][0] |= {"os": FLATCAR, "gpu": gpu}
    return Cluster.model_validate(document)


def signature(text: str, number: int = 0) -> str:
    """Return the signature of a machine with the key of this number, in base64."""
    key = crafted.key("p256", number)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return base64.b64encode(key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))).decode()


@dataclass
class GpuRack(JoiningRack):
    """w1 is in a pool of eight H100; the cluster knows its node."""

    cluster: Cluster = field(default_factory=lambda: gpu_cluster(expected=8, products=["h100-sxm"]))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gate, self.approver = Gate(self.site), Approver(self.site)

    def join(self, *, ready: bool = True, gpus: int = 0, tainted: bool = True, number: int = 0) -> None:
        """Bring w1 into the cluster, with its key of this number."""
        self.install()
        assert self.claim(csr("w1", number)).status_code == 200
        self.kube.seen = [view(is_ready=ready)]
        self.node(gpus=gpus, tainted=tainted)
        self.approver.look()

    def node(self, *, gpus: int = 0, tainted: bool = True, **instances: int) -> None:
        """Have the cluster know w1 with so many GPUs, and instances of GPUs by profile (mig_3g_40gb)."""
        taints = (OTHER, TAINT) if tainted else (OTHER,)
        names = {name: f"nvidia.com/{name.replace('_', '-', 1).replace('_', '.')}" for name in instances}
        self.kube.marks["w1"] = NodeMarks(
            name="w1",
            revision="1",
            labels={},
            taints=taints,
            gpus=gpus,
            instances={names[name]: count for name, count in instances.items()},
        )

    def said(self, *devices: str, **more: Any) -> str:
        """Return the text of a report."""
        return report(*devices, **{"arm": self.record().arm, **more}).model_dump_json(by_alias=True)

    def report(self, text: str | None = None, *, number: int = 0, **more: Any) -> TestResponse:
        """Tell of the GPUs as the agent does; without a text, that all is well."""
        said = self.said() if text is None else text
        body = {"mac": W1, "arm": self.record().arm, "report": said, "signature": signature(said, number)}
        return self.ask("machine", "POST", "/v1/machine/gpus", json=body | more)

    @property
    def taints(self) -> list[str]:
        return [str(taint["key"]) for taint in self.kube.marks["w1"].taints]

    def gpus(self) -> dict[str, Any]:
        """Return what the operator is told of the GPUs of w1."""
        (found,) = (self.operator("GET", "/v1/gpus").json or {})["nodes"]
        return dict(found)

    def kept(self, kind: str = "gpu-passed") -> dict[str, Any] | None:
        entry = self.store.get(f"{kind}/{W1}")
        return json.loads(entry.value) if entry else None

    def events(self, *kinds: str) -> list[tuple[str, str]]:
        found = self.site.ledger.events_of(W1)
        return [(event.what, event.decision) for event in found if event.what in kinds]
