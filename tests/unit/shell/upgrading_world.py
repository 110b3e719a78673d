"""Three nodes in a pool with GPUs, an image of yesterday that they run, and one of today, for `gpu upgrade`."""

from pathlib import Path

from bootstrap import artifacts
from bootstrap.gpu.rollout import Planned, planned
from bootstrap.upgrading import How, Stop, roll_out
from tests.unit.web.upgrade_rack import (
    MACS,
    NEW_KERNEL,
    OLD_KERNEL,
    FakeNodes,
    UpgradeRack,
    image,
    t4_cluster,
)

OLD, NEW = "550.163.01", "550.163.02"


class World:
    """Three nodes with an image of yesterday, and one of today in the cache."""

    def __init__(self, tmp_path: Path) -> None:
        self.cache = tmp_path / "cache"
        self.old = image(self.cache, "old", OLD, OLD_KERNEL)
        self.rack = UpgradeRack(cache=self.cache)
        self.rack.up()
        self.nodes = FakeNodes(self.rack)
        self.told: list[str] = []
        self.seconds = 0.0

    def build(self, version: str = NEW, kernel: str = NEW_KERNEL, key: str = "new") -> None:
        """Put a newer image into the cache."""
        image(self.cache, key, version, kernel)
        self.rack.site.images._found.clear()  # type: ignore[attr-defined]  # half a second later

    def configure(self, **gpu: object) -> None:
        self.rack.cluster = t4_cluster(**gpu)
        self.rack.site.load()

    def plans(self) -> tuple[Planned, ...]:
        return planned(self.rack.asked.gpus(), self.nodes.nodes(), artifacts.manifests(self.cache))

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.rack.turn(seconds)

    def upgrade(self, *, seconds: float = 1800, by_hand: bool = False) -> tuple[tuple[str, ...], Stop | None]:
        def asked(name: str, action: str) -> str:
            self.rack.cuts.append(f"{name} {action} by hand")
            return "switch it by hand"

        how = How(
            seconds=seconds,
            tell=self.told.append,
            switch=asked if by_hand else self.rack.power,
            clock=lambda: self.seconds,
            sleep=self.sleep,
        )
        return roll_out(self.rack.asked, self.nodes, self.plans(), how, self.again)

    def again(self, name: str) -> Planned | None:
        return next((one for one in self.plans() if one.name == name), None)

    def runs(self) -> dict[str, str]:
        return {name: found.key for name, found in self.rack.runs.items()}

    def is_quiet(self) -> bool:
        """Return whether every node is verified, takes pods, and nothing is left of an upgrade."""
        marks = self.rack.kube.marks.values()
        return (
            not self.nodes.cordoned
            and not self.nodes.annotations
            and not any(node.taints for node in marks)
            and all(self.rack.of(name).state == "gpu-ready" for name in MACS)
        )
