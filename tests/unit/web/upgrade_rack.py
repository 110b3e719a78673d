"""A rack of machines with GPUs whose driver is in their image: power makes them install it, join, and tell of it.

The application is the real one, with its gate; what stands around it is not: machines, and Kubernetes.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bootstrap import artifacts
from bootstrap.artifacts import Manifest
from bootstrap.gpu.mark import ANNOTATION
from bootstrap.gpu.taint import TAINT
from bootstrap.kubernetes.seen import NodeMarks, NodeView
from bootstrap.model import Cluster
from bootstrap.operator import Operator
from bootstrap.records.model import MachineRecord
from bootstrap.states import ON_DISK
from tests.unit.gpu.reports import report
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, W3, cluster
from tests.unit.web.gpu_rack import signature
from tests.unit.web.joining import JoiningRack, csr
from tests.unit.web.test_web_gpu_images import stored
from web.approver import Approver
from web.gate import Gate
from web.images import CachedImages

T4 = "1eb8"
MACS = {"w1": W1, "w2": W2, "w3": W3}
OLD_KERNEL, NEW_KERNEL = "6.12.107-cloud-amd64", "6.12.117-cloud-amd64"


def t4_cluster(**gpu: Any) -> Cluster:
    """Return a cluster of three machines with a T4 each, in a pool of Debian 13 with this `gpu:` section."""
    machines = [{"name": name, "mac": mac} for name, mac in MACS.items()]
    document = cluster(*machines, hosts=1).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["pools"][0] |= {"gpu": {"products": ["t4"], "expected": 1, **gpu}}
    return Cluster.model_validate(document)


def image(cache: Path, key: str, version: str, kernel: str) -> Manifest:
    """Put an image with this pair into the cache; the last one is served."""
    plain = stored(cache, f"{key}-plain")
    disk = cache.with_name(f"disk-{key}")
    disk.write_text(key)
    initrd = cache.with_name(f"initrd-{key}")
    initrd.write_text(f"initrd of {key}")
    made = replace(
        plain,
        initrd=artifacts.import_file(cache, initrd),
        key=key,
        kernel_flavour="cloud",
        kernel_version=kernel,
        driver=f"{version.partition('.')[0]} (closed)",
        driver_version=version,
        disk=artifacts.import_file(cache, disk),
    )
    artifacts.save_manifest(cache, made)
    return made


class AppOperator(Operator):
    """Asks the application in this process."""

    def __init__(self, rack: Rack) -> None:
        super().__init__(Path("none"))
        self._rack = rack

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        kind = {"content_type": "application/json"} if body else {}
        answer = self._rack.operator(method, path, data=body, **kind)
        return answer.status_code, answer.data


@dataclass
class UpgradeRack(JoiningRack):
    """Three machines, and what they have installed; `spoiled` says what is wrong with the reports of which image."""

    cluster: Cluster = field(default_factory=t4_cluster)
    cache: Path = Path("none")
    spoiled: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, Manifest] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    cuts: list[str] = field(default_factory=list)
    installs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.site.images = CachedImages(self.cache)
        self.gate, self.approver = Gate(self.site), Approver(self.site)
        self.asked = AppOperator(self)

    def mac(self, name: str) -> str:
        machine = self.cluster.machine(name)
        assert machine is not None
        return machine.mac

    def of(self, name: str) -> MachineRecord:
        return self.record(self.mac(name))

    def boots(self, name: str) -> None:
        """Have a machine that boots from the network do what it is told: install, start its disk, join, report."""
        mac = self.mac(name)
        if "firstlight.arm" not in self.boot(mac) and self.of(name).state not in ("armed", "installing"):
            return
        granted = self.begin(mac)
        assert granted.status_code == 200, granted.text
        found = (granted.json or {})["image"]["sha256"]
        everything = artifacts.manifests(self.cache)
        self.runs[name] = next(one for one in everything if one.disk.sha256 == found)
        assert self.tell("complete", mac).status_code == 200
        self.installs += 1
        self.keys[name] = self.installs  # the old key went with the disk
        self.tell("booted", mac, address=f"10.77.0.10{name[1:]}")
        self.joins(name)

    def joins(self, name: str) -> None:
        """Have an installed machine join, and its kubelet tell of it."""
        granted = self.claim(csr(name, self.keys[name]), self.mac(name))
        assert granted.status_code == 200, granted.text
        self.registers(name)
        self.approver.look()

    def registers(self, name: str) -> None:
        """Have the cluster see the node: Ready, with its GPU to be given out."""
        node = self.kube.marks.get(name)
        taints = node.taints if node else (TAINT,)
        self.kube.marks[name] = NodeMarks(name=name, revision="1", labels={}, taints=taints, gpus=1)
        old = [one for one in self.kube.seen if one.name != name]
        self.kube.seen = [*old, self.view(name)]

    def view(self, name: str) -> NodeView:
        return NodeView(
            name=name,
            is_ready=True,
            message="kubelet is posting ready status",
            addresses=(),
            version="v1.36.4",
            is_cordoned=False,
            kernel=self.runs[name].kernel_version,
        )

    def reports(self, name: str) -> dict[str, Any]:
        """Have a node tell of its GPU, with the driver in its image; return what it hears."""
        record, runs = self.of(name), self.runs[name]
        said = {"driver": runs.driver_version, "flavour": "closed", "node": name, "arm": record.arm}
        text = report(T4, **(said | self.spoiled.get(runs.key, {}))).model_dump_json(by_alias=True)
        body = {"mac": self.mac(name), "arm": record.arm, "report": text}
        body["signature"] = signature(text, self.keys[name])
        answer = self.ask("machine", "POST", "/v1/machine/gpus", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json or {})

    def turn(self, seconds: float = 5) -> None:
        """Have time go by: nodes report, the appliance looks at them."""
        self.clock.forward(seconds)
        for name in self.runs:
            if self.of(name).claim is not None and self.of(name).state in ON_DISK:
                self.reports(name)
        self.approver.look()
        self.gate.look()

    def up(self, names: Iterable[str] = MACS) -> None:
        """Have machines installed with the image of today, and verified."""
        for name in names:
            self.boots(name)
        self.turn()
        for name in names:
            assert self.of(name).state == "gpu-ready", self.of(name)

    def power(self, name: str, action: str) -> str:
        """Switch a machine as `gpu upgrade` has it done."""
        self.cuts.append(f"{name} {action}")
        self.boots(name)
        return ""


@dataclass
class FakeNodes:
    """The cluster as `gpu upgrade` sees it; `pods` leave when they are asked, unless they are `stuck`."""

    rack: UpgradeRack
    pods: dict[str, list[str]] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    cordoned: set[str] = field(default_factory=set)
    annotations: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    hook: Callable[[str], None] = lambda _: None

    def nodes(self) -> dict[str, NodeView]:
        return {name: view for name in self.rack.runs if (view := self.node(name))}

    def node(self, name: str) -> NodeView | None:
        seen = self.rack.view(name)
        return replace(seen, is_cordoned=name in self.cordoned, upgrade=self.annotations.get(name, ""))

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> None:
        self._did(f"patch {name}")
        if "unschedulable" in patch.get("spec", {}):
            (self.cordoned.add if patch["spec"]["unschedulable"] else self.cordoned.discard)(name)
        text = patch["metadata"]["annotations"][ANNOTATION]
        if text is None:
            self.annotations.pop(name, None)
        else:
            assert json.loads(text)
            self.annotations[name] = text

    def evict_pods(self, node: str) -> list[str]:
        self._did(f"evict {node}")
        found = self.pods.get(node, [])
        self.pods[node] = [pod for pod in found if pod in self.stuck]
        return found

    def _did(self, what: str) -> None:
        self.done.append(what)
        self.hook(what)
