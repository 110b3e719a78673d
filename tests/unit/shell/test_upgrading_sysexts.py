"""`gpu upgrade` on Flatcar, with the real application: a node is told the sysext, names it, and is started anew."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from bootstrap.gpu.rollout import What, planned
from bootstrap.kubernetes.seen import NodeView
from bootstrap.upgrading import How, Stop, roll_out
from tests.unit.gpu.machines import H100
from tests.unit.gpu.reports import report
from tests.unit.web.fakes import W1
from tests.unit.web.gpu_rack import GpuRack, gpu_cluster, signature
from tests.unit.web.upgrade_rack import AppOperator

VERSIONS = {"nvidia-drivers-550": "550.163.01", "nvidia-drivers-570-open": "570.133.20"}


@dataclass
class Node:
    """w1 on Flatcar: what its agent wrote down for the next start, and what is loaded; `broken` does not load."""

    rack: GpuRack
    loaded: str = ""
    conf: str = "nvidia-drivers-550"
    answer: dict[str, Any] = field(default_factory=dict)
    broken: str = ""
    starts: int = 0
    patched: list[dict[str, Any]] = field(default_factory=list)
    evicted: int = 0
    told: list[str] = field(default_factory=list)
    now: float = 0.0

    def start(self, *_: str) -> str:
        self.starts += 1
        self.loaded = "" if self.conf == self.broken else VERSIONS[self.conf]
        return ""

    def report(self) -> None:
        """Do what configs/node/gpu does (tests/unit/node/test_gpu_agent.py)."""
        wanted = (self.answer.get("names") or [self.conf])[0]
        state, reason = "ready", ""
        if not self.loaded or VERSIONS[wanted] != self.loaded:
            self.conf = wanted
            state = "driver-mismatch" if self.loaded else "driver-missing"
            reason = (
                f"/etc/flatcar/enabled-sysext.conf names {wanted}, and Flatcar fetches it at the next start"
            )
        said: dict[str, Any] = {
            "state": state,
            "reason": reason,
            "driver": self.loaded,
            "arm": self.rack.record().arm,
        }
        flavour = "open" if self.loaded.startswith("570") else "closed"
        said |= {"flavour": flavour} if self.loaded else {"flavour": "", "lines": ()}
        text = report(*[H100] * 8, **said).model_dump_json(by_alias=True)
        body = {"mac": W1, "arm": said["arm"], "report": text, "signature": signature(text)}
        answer = self.rack.ask("machine", "POST", "/v1/machine/gpus", json=body)
        assert answer.status_code == 200, answer.text
        self.answer = (answer.json or {})["driver"] or {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.rack.clock.forward(seconds)
        self.report()
        self.rack.gate.look()

    def node(self, name: str) -> NodeView:
        done = self.patched[-1] if self.patched else {}
        texts = done.get("metadata", {}).get("annotations", {}).values()
        return NodeView(
            name=name,
            is_ready=True,
            message="",
            addresses=(),
            version="v1.36.4",
            is_cordoned=bool(done.get("spec", {}).get("unschedulable")),
            upgrade=next(iter(texts), "") or "",
        )

    def patch_node(self, name: str, patch: Any) -> None:
        assert name == "w1"
        self.patched.append(patch)

    def evict_pods(self, node: str) -> list[str]:
        assert node == "w1"
        self.evicted += 1
        return []

    def upgrade(self) -> tuple[tuple[str, ...], Stop | None]:
        asked = AppOperator(self.rack)
        plans = planned(asked.gpus(), {"w1": self.node("w1")}, ())
        assert [one.what for one in plans if one.name == "w1"] == [What.RESTART]
        how = How(
            seconds=1800, tell=self.told.append, switch=self.start, clock=lambda: self.now, sleep=self.sleep
        )
        return roll_out(asked, self, plans, how, lambda name: next(one for one in plans if one.name == name))


@pytest.fixture
def node() -> Node:
    """w1, verified with 550; its pool has asked for 570 since."""
    rack = GpuRack(cluster=gpu_cluster(expected=8, products=["h100-sxm"], driver=550))
    rack.join(gpus=8)
    made = Node(rack)
    made.start()
    made.report()
    rack.gate.look()
    assert rack.record().state == "gpu-ready"
    rack.cluster = gpu_cluster(expected=8, products=["h100-sxm"], driver=570)
    rack.site.load()
    made.starts = 0
    return made


def test_until_it_is_its_turn_a_node_keeps_its_sysext(node: Node) -> None:
    node.sleep(300)
    node.sleep(300)

    assert node.conf == "nvidia-drivers-550"
    assert node.rack.record().state == "gpu-ready"


def test_a_node_names_the_new_sysext_and_is_started_once(node: Node) -> None:
    assert node.upgrade() == (("w1",), None), node.told

    assert (node.conf, node.loaded, node.starts, node.evicted) == (
        "nvidia-drivers-570-open",
        "570.133.20",
        1,
        1,
    )
    assert node.rack.machine()["gpu"]["verified"] == "570.133.20 (open)"
    assert not node.node("w1").is_cordoned
    assert node.rack.record().attempts == 0  # its disk is as it was


def test_a_sysext_that_does_not_load_gives_way_to_the_former_one(node: Node) -> None:
    node.broken = "nvidia-drivers-570-open"

    done, stop = node.upgrade()

    assert done == ()
    assert stop is not None
    assert stop.reason.startswith("the gate holds it back: driver: ")
    assert stop.after == "set back to 550 (closed), verified, and takes pods again"
    assert (node.conf, node.loaded, node.starts) == ("nvidia-drivers-550", "550.163.01", 2)
    assert node.rack.machine()["gpu"]["pin"] == {"driver": "550 (closed)", "image": ""}
    node.sleep(300)
    assert node.rack.record().state == "gpu-ready"
    assert not node.node("w1").is_cordoned
