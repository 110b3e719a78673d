"""Which nodes get another driver, what they go back to, and when one has arrived."""

from typing import Any

import pytest

from bootstrap.artifacts import Artifact, Manifest
from bootstrap.gpu.mark import ANNOTATION, Mark, Stage, mark_from, patch_with, patch_without
from bootstrap.gpu.rollout import Pair, What, come, names_sysexts, planned
from bootstrap.gpu.rows import title_of
from bootstrap.kubernetes.seen import NodeView

FILE = Artifact("a" * 64, 1)
KERNEL = "6.12.117"
TARGET = {
    "route": "packages",
    "driver": "550 (closed)",
    "names": ["nvidia-kernel-dkms"],
    "version": "550.163.01",
    "kernel": KERNEL,
    "image": "new",
    "checkInterval": 300,
}
SYSEXT = {
    "route": "sysext",
    "driver": "570 (open)",
    "names": ["nvidia-drivers-570-open"],
    "version": "",
    "kernel": "",
    "image": "",
    "checkInterval": 300,
}


def image(key: str, version: str, kernel: str, flavour: str = "closed") -> Manifest:
    return Manifest(
        key=key,
        family="debian",
        release="13",
        kernel_flavour="cloud",
        kernel_version=kernel,
        built="2026-11-23T13:57:11Z",
        kernel=FILE,
        initrd=FILE,
        disk=FILE,
        raw_size=4,
        driver=f"{version.partition('.')[0]} ({flavour})",
        driver_version=version,
    )


IMAGES = (
    image("new", "550.163.01", KERNEL),
    image("plain", "", KERNEL),
    image("other", "535.274.02", "6.12.107", "open"),
    image("old", "535.274.02", "6.12.107"),
)


def said(name: str = "w1", **differs: Any) -> dict[str, Any]:
    """Return a machine of GET /v1/gpus that runs yesterday's driver and is well."""
    well = {
        "name": name,
        "pool": "gpus",
        "target": TARGET,
        "machineState": "gpu-ready",
        "heardAt": "2026-01-01T00:00:00Z",
        "state": "ready",
        "part": "",
        "verdict": "",
        "driver": "535.274.02",
        "flavour": "closed",
        "pin": None,
    }
    return well | differs


def node(name: str = "w1", *, kernel: str = "6.12.107", is_ready: bool = True, upgrade: str = "") -> NodeView:
    return NodeView(
        name=name,
        is_ready=is_ready,
        message="kubelet stopped posting",
        addresses=(),
        version="v1.36.4",
        is_cordoned=False,
        kernel=kernel,
        upgrade=upgrade,
    )


def plan(machine: dict[str, Any], seen: NodeView | None) -> Any:
    (found,) = planned([machine], {seen.name: seen} if seen else {}, IMAGES)
    return found


def test_a_node_with_an_older_pair_is_installed_and_goes_back_to_the_image_with_exactly_that_pair() -> None:
    found = plan(said(), node())

    assert (found.what, found.is_work, found.why) == (What.INSTALL, True, "")
    assert (found.now, str(found.wanted)) == (
        "535.274.02 (closed) for 6.12.107",
        "550.163.01 (closed) for 6.12.117",
    )
    assert found.back == Pair(driver="535 (closed)", version="535.274.02", kernel="6.12.107", image="old")
    assert found.plain()["back"] == "535.274.02 (closed) for 6.12.107"


@pytest.mark.parametrize(
    ("machine", "seen"),
    [
        (said(driver="550.163.01"), node(kernel=KERNEL)),
        (said(driver="", flavour="", state="none"), node()),
    ],
)
def test_who_runs_it_or_has_no_gpu_is_left_alone(machine: dict[str, Any], seen: NodeView) -> None:
    found = plan(machine, seen)

    assert (found.what, found.is_work, found.is_lacking) == (What.NOTHING, False, False)


def test_the_same_driver_for_another_kernel_is_another_pair() -> None:
    assert plan(said(driver="550.163.01"), node()).what is What.INSTALL
    assert plan(said(driver="550.163.02"), node(kernel=KERNEL)).what is What.INSTALL
    assert plan(said(driver="550.163.01", flavour="open"), node(kernel=KERNEL)).what is What.INSTALL


@pytest.mark.parametrize(
    ("machine", "seen", "why", "is_lacking"),
    [
        (said(), None, "no node of the cluster: it gets the driver when it is installed", False),
        (said(machineState="failed"), node(), "no node of the cluster", False),
        (said(), node(is_ready=False), "its node is not Ready: kubelet stopped posting", True),
        (said(heardAt=None, driver=None, flavour=None, state=None, part=None), node(), "not told of its GPUs", True),
        (said(part="count", verdict="count: 7 of 8"), node(), "held back already: count: 7 of 8", True),
        (said(target={**TARGET, "image": "", "version": "", "kernel": ""}), node(), "image build", True),
        (
            said(target={**TARGET, "route": "nvidia.service", "driver": "535 (open)"}),
            node(),
            "nvidia.service compiles the driver at the first boot: machine arm w1",
            True,
        ),
    ],
)  # fmt: skip
def test_who_cannot_be_upgraded_is_left_out_and_why(
    machine: dict[str, Any], seen: NodeView | None, why: str, *, is_lacking: bool
) -> None:
    found = plan(machine, seen)

    assert (found.what, found.is_work, found.is_lacking) == (What.LEFT_OUT, False, is_lacking)
    assert why in found.why


def test_a_node_without_a_driver_gets_one_and_has_no_way_back() -> None:
    found = plan(said(driver="", flavour="", part="driver", state="driver-missing"), node())

    assert (found.what, found.now, found.back, found.why) == (What.INSTALL, "-", None, "no way back")


def test_pools_without_a_driver_are_not_in_the_plan() -> None:
    assert planned([said(target=None)], {"w1": node()}, IMAGES) == ()


def test_a_sysext_is_exchanged_by_a_start_and_goes_back_to_its_former_name() -> None:
    found = plan(said(target=SYSEXT, driver="550.163.01", flavour="open"), node())

    assert (found.what, found.now, str(found.wanted)) == (What.RESTART, "550.163.01 (open)", "570 (open)")
    assert found.back == Pair(driver="550 (open)", names=("nvidia-drivers-550-open",))
    assert plan(said(target=SYSEXT, driver="570.133.20", flavour="open"), node()).what is What.NOTHING


def test_what_was_begun_comes_first_and_remembers_its_way_back() -> None:
    mark = Mark(stage=Stage.FORWARD, arm="a", driver="535.274.02 (closed)", image="old")
    text = patch_with(mark)["metadata"]["annotations"][ANNOTATION]
    nodes = {"w1": node(), "w2": node("w2", is_ready=False, kernel=KERNEL, upgrade=text)}
    second = said("w2", machineState="installing", driver=None, flavour=None)

    found = planned([said(), second], nodes, IMAGES)

    assert [(one.name, one.what) for one in found] == [("w2", What.INSTALL), ("w1", What.INSTALL)]
    assert found[0].mark == mark
    assert found[0].back == Pair(driver="535 (closed)", version="535.274.02", kernel="6.12.107", image="old")
    assert found[0].why == "was begun, and goes on"


def test_a_mark_survives_its_node_and_what_is_none_does_not_count() -> None:
    mark = Mark(stage=Stage.BACK, arm="a", driver="535.274.02 (closed)", cordoned=True, reason='"quoted"')

    assert mark_from(patch_with(mark)["metadata"]["annotations"][ANNOTATION]) == mark
    assert [mark_from(text) for text in ("", "{", "[]", '{"stage": "sideways"}')] == [None] * 4
    assert patch_with(mark)["spec"] == {"unschedulable": True}
    assert "spec" not in patch_without(mark)
    other = mark.model_copy(update={"cordoned": False})
    assert patch_without(other)["spec"] == {"unschedulable": None}


def machine(state: str = "gpu-ready", **gpu: Any) -> dict[str, Any]:
    known = {
        "part": "",
        "verdict": "",
        "reason": "",
        "passedAt": "t",
        "verified": "550.163.01 (closed)",
    } | gpu
    return {"state": state, "reason": "", "message": "installing 40 %", "gpu": known}


WANTED = Pair(driver="550 (closed)", version="550.163.01", kernel=KERNEL, image="new")


def test_one_has_arrived_when_it_was_verified_with_the_pair_and_is_ready() -> None:
    assert come(machine(), node(kernel=KERNEL), WANTED).is_done
    assert not come(machine(), node(kernel=KERNEL, is_ready=False), WANTED).is_done
    assert not come(machine(), None, WANTED).is_done
    other = come(machine(), node(), WANTED)
    assert not other.is_done
    assert other.text.startswith("it runs 550.163.01 (closed) for 6.12.107, and is to run 550.163.01")
    assert not come(machine(verified="535.274.02 (closed)"), node(kernel=KERNEL), WANTED).is_done
    assert not come(machine(state="ready"), node(kernel=KERNEL), WANTED).is_done


def test_who_is_held_or_lost_or_on_its_way_says_so() -> None:
    held = come(machine("ready", passedAt=None, part="plugin", verdict="plugin: 0 of 1"), node(), WANTED)
    assert (held.is_held, held.text) == (True, "the gate holds it back: plugin: 0 of 1")
    assert not come(machine("ready", passedAt=None, part="plugin"), node(is_ready=False), WANTED).is_held
    lost = come({**machine("failed"), "reason": "3 install attempts did not finish"}, None, WANTED)
    assert lost.lost == "the machine is failed: 3 install attempts did not finish"
    assert come(machine("installing", passedAt=None), None, WANTED).text == "installing 40 %"


def test_a_sysext_is_named_when_its_very_name_is() -> None:
    wanted = Pair(driver="570 (closed)", names=("nvidia-drivers-570",))
    reason = "/etc/x names nvidia-drivers-570-open, and Flatcar fetches it"

    assert not names_sysexts(machine(verified="", reason=reason), wanted).is_done
    assert names_sysexts(machine(verified="", reason=reason.replace("-open", "")), wanted).is_done
    assert names_sysexts(machine(verified="570.133.20 (closed)"), wanted).is_done


def test_titles_of_loaded_drivers() -> None:
    assert [title_of(text) for text in ("570.133.20 (open)", "550 (closed)", "570.133.20", "")] == [
        "570 (open)",
        "550 (closed)",
        "",
        "",
    ]
