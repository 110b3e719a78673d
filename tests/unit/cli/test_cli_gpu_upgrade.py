"""`gpu upgrade` as people call it: what is shown and asked, and the exit codes; the application is the real one."""

import functools
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootstrap.cli import gpu_upgrade
from bootstrap.kubernetes.seen import NodeView
from bootstrap.power import PowerState
from bootstrap.switching import Outcome
from bootstrap.upgrading import How
from tests.unit.shell.upgrading_world import World
from tests.unit.web.upgrade_rack import MACS, OLD_KERNEL, FakeNodes

Firstlight = Callable[..., Any]
REDFISH = {"driver": "redfish", "address": "https://10.0.0.5", "user": "admin", "passwordFile": "bmc.pw"}
WAS, IS = "550.163.01 (closed) for 6.12.107-cloud-amd64", "550.163.02 (closed) for 6.12.117-cloud-amd64"


class Room:
    """A world, and the command in it."""

    def __init__(self, world: World, firstlight: Firstlight, config: Path) -> None:
        self.world, self._firstlight, self._config = world, firstlight, config

    def __call__(self, *words: str) -> Any:
        return self._firstlight("--config", self._config, *words)

    def upgrade(self, *words: str) -> Any:
        return self("gpu", "upgrade", *words)

    def presses_buttons(self) -> None:
        """Have a person switch w3, which has no power driver."""
        inner = self.world.sleep

        def sleep(seconds: float) -> None:
            if self.world.rack.of("w3").state == "armed":
                self.world.rack.boots("w3")
            inner(seconds)

        self.world.sleep = sleep  # type: ignore[method-assign]

    def configure(self, **gpu: Any) -> None:
        """Write the configuration of the world's cluster."""
        self._config.write_text(json.dumps(configuration(gpu)))


def configuration(gpu: dict[str, Any]) -> dict[str, Any]:
    machines = [
        {"name": name, "mac": mac, "pool": "workers", "address": f"10.77.0.2{name[1:]}", "power": REDFISH}
        for name, mac in MACS.items()
    ]
    del machines[2]["power"]
    return {
        "apiVersion": "firstlight/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "lab"},
        "kubernetes": {"version": "v1.36.4", "controlPlaneEndpoint": "10.77.0.11:6443"},
        "controlPlane": {"hosts": [{"name": "m1", "address": "10.77.0.11"}]},
        "etcd": {"members": ["m1"]},
        "appliance": {
            "interface": "fl0",
            "address": "10.77.0.1/24",
            "dhcp": {"mode": "server", "range": ["10.77.0.101", "10.77.0.200"]},
        },
        "pools": [
            {
                "name": "workers",
                "os": {"family": "debian", "release": "13", "kernel": "cloud"},
                "disk": {"select": {"type": "virtio"}},
                "gpu": {"products": ["t4"], "expected": 1, **gpu},
            }
        ],
        "machines": machines,
    }


class FakeApi(FakeNodes):
    def close(self) -> None:
        self.done.append("close")


@pytest.fixture
def room(firstlight: Firstlight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """Three nodes with an older pair than the image that is there."""
    world = World(tmp_path)
    world.build()
    world.nodes = FakeApi(world.rack)
    made = Room(world, firstlight, tmp_path / "config.yaml")
    made.configure()
    (tmp_path / "bmc.pw").write_text("secret")
    monkeypatch.setenv("FIRSTLIGHT_CACHE", str(world.cache))
    monkeypatch.setattr(gpu_upgrade, "operator", lambda _: world.rack.asked)
    monkeypatch.setattr(gpu_upgrade, "administrator", lambda *_: None)
    monkeypatch.setattr(gpu_upgrade, "Api", lambda _: Listed(world))
    how = functools.partial(How, clock=lambda: world.seconds, sleep=lambda seconds: world.sleep(seconds))  # noqa: PLW0108  # a test changes it later
    monkeypatch.setattr(gpu_upgrade, "How", how)
    monkeypatch.setattr(gpu_upgrade, "switch", lambda targets, action: (switched(world, targets, action),))
    return made


class Listed:
    """The same cluster, with a list of its nodes."""

    def __init__(self, world: World) -> None:
        self._world = world

    def nodes(self) -> list[NodeView]:
        return list(self._world.nodes.nodes().values())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.nodes, name)


def switched(world: World, targets: Any, action: str) -> Outcome:
    (target,) = targets
    if target.name == "w2":
        world.rack.boots("w2")  # somebody does it
        return Outcome(
            name="w2", driver="redfish", state=PowerState.UNKNOWN, error="w2: 10.0.0.5 does not answer"
        )
    world.rack.power(target.name, action)
    return Outcome(name=target.name, driver="redfish", state=PowerState.ON)


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_a_dry_run_shows_who_gets_what_and_changes_nothing(room: Room) -> None:
    found = room.upgrade("--dry-run")

    assert (found.code, found.err) == (0, "")
    assert cells(found.out) == [
        list(gpu_upgrade.HEADINGS),
        *([name, "workers", WAS, IS, "install", WAS, "-"] for name in ("w1", "w2", "w3")),
    ]
    assert room.world.nodes.done == ["close"]
    one = room("-o", "json", "gpu", "upgrade", "--dry-run", "--machine", "w2").json()
    assert one == [
        {"name": "w2", "pool": "workers", "what": "install", "now": WAS, "wanted": IS, "why": "", "back": WAS}
    ]


def test_all_that_can_be_is_upgraded_and_what_a_person_has_to_do_is_said(room: Room) -> None:
    world = room.world
    room.presses_buttons()
    found = room.upgrade("--yes")

    assert found.code == 0, found.err
    assert [row[4] for row in cells(found.out)[1:]] == ["done"] * 3
    assert world.runs() == dict.fromkeys(("w1", "w2", "w3"), "new")
    assert world.is_quiet()
    by_hand = "power it off and on by hand, and have it boot from the network; waiting for that"
    assert f"w2: w2: 10.0.0.5 does not answer; {by_hand}" in found.err
    assert f"w3: it has no power driver: {by_hand}" in found.err
    again = room.upgrade("--yes")
    assert (again.code, [row[4] for row in cells(again.out)[1:]]) == (0, ["nothing"] * 3)


def test_one_that_fails_is_named_and_the_rest_not_begun(room: Room) -> None:
    room.world.rack.spoiled["new"] = {"lines": (), "failure": "NVRM: API mismatch"}
    found = room.upgrade("--yes")

    assert found.code == 3
    assert [row[4] for row in cells(found.out)[1:]] == ["failed", "not begun", "not begun"]
    assert found.err.splitlines()[-2].startswith("w1: the gate holds it back: driver: NVRM: API mismatch")
    assert found.err.splitlines()[-2].endswith(f"set back to {WAS}, verified, and takes pods again")
    assert found.err.splitlines()[-1] == "not begun: w2, w3"


def test_it_asks_before_it_erases_a_disk(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    found = room.upgrade("--machine", "w1")

    assert (found.code, room.world.nodes.done) == (2, ["close"])
    assert "erase the disks of w1 and install them with the new driver" in found.err
    assert "nobody can answer here: add --yes" in found.err


def test_only_the_machines_that_were_named_are_touched(room: Room) -> None:
    assert room.upgrade("--yes", "--machine", "w1", "--pool", "workers").code == 0
    assert room.world.runs() == {"w1": "new", "w2": "old", "w3": "old"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--machine", "w9"), "there is no machine 'w9'"),
        (("--pool", "worker"), "there is no pool 'worker'; did you mean workers"),
        (("--timeout", "0"), "--timeout"),
    ],
)
def test_a_wrong_word_is_refused(room: Room, words: tuple[str, ...], told: str) -> None:
    found = room.upgrade("--yes", *words)

    assert found.code == 2
    assert told in found.err
    assert room.world.nodes.done == []


def test_a_configuration_that_the_appliance_does_not_know_is_no_base(room: Room) -> None:
    room.configure(driver=535)
    found = room.upgrade("--yes")

    assert (found.code, room.world.nodes.done) == (2, ["close"])
    assert found.err.strip() == "pool workers: the appliance does not know this configuration yet: up"


def test_where_an_earlier_image_serves_the_pool_the_appliance_knows_the_configuration(room: Room) -> None:
    """It said that it did not: the image that machines install from holds another driver than the pool is to have."""
    for made in (room.world.cache / "images").glob("*.json"):
        made.unlink()
    room.world.build("535.274.02", OLD_KERNEL, "former")

    found = room.upgrade("--dry-run")

    assert found.code == 0, found.err
    assert "535.274.02 (closed)" in found.out


def test_a_node_that_cannot_be_upgraded_is_left_out_and_the_exit_code_says_so(room: Room) -> None:
    room.world.rack.kube.marks["w1"] = room.world.rack.kube.marks["w1"].__class__(
        name="w1", revision="1", labels={}, taints=(), gpus=0
    )
    room.world.sleep(5)
    room.world.sleep(100)

    found = room.upgrade("--yes", "--machine", "w1")

    assert found.code == 3
    assert cells(found.out)[1][4] == "left out"
    assert "held back already: plugin: Kubernetes can give out 0 of 1" in found.out
    assert room.world.runs()["w1"] == "old"


def test_where_no_pool_has_a_driver_that_is_said(room: Room) -> None:
    room.configure(installCuda=False)
    room.world.configure(installCuda=False)
    found = room.upgrade("--yes")

    assert found.code == 0
    assert found.err.strip() == "none of these machines gets a GPU driver from its pool: nothing to upgrade"


def test_ctrl_c_says_what_is_left_and_exits_130(room: Room) -> None:
    def cut(_: float) -> None:
        raise KeyboardInterrupt

    room.world.sleep = cut  # type: ignore[method-assign,assignment]
    found = room.upgrade("--yes")

    assert found.code == 130
    assert "takes no pods until this is run again, which goes on with it" in found.err
    assert set(room.world.nodes.annotations) == {"w1"}
