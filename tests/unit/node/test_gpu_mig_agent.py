"""configs/node/gpu-mig: GPUs are parted as their pool says, when nothing uses them, and what we made alone goes."""

import pytest

from tests.unit.node.appliance import Node
from tests.unit.node.mig_machine import MigMachine

MIXED = ["1g.10gb", "3g.40gb", "2g.20gb"]
MADE = ["3g.40gb", "2g.20gb", "1g.10gb"]
ON, OFF = ("Enabled", "Enabled"), ("Disabled", "Disabled")
WELL = ("ready", "")
WAITS = ("plugin-missing", "the device plugin has offered 0 of 6 instances of GPUs to kubelet")


@pytest.fixture
def gpus(machine: Node) -> MigMachine:
    """A node that has joined, in a pool of two H100 that are parted into three each."""
    assert machine.join().returncode == 0
    made = MigMachine(machine)
    made.offer(0)
    wants(made, MIXED)
    return made


def wants(gpus: MigMachine, mig: object) -> None:
    gpus.configure(expected=2, products=["h100-sxm"], **({"mig": mig} if mig else {}))


def test_gpus_are_parted_once_and_then_left_alone(gpus: MigMachine) -> None:
    assert gpus.look() == WAITS
    assert (gpus.modes(), gpus.parts()) == ([ON, ON], [MADE, MADE])
    assert [line for line in gpus.changes() if "cgi" in line or "-mig" in line] == [
        "-i 0 -mig 1",
        "mig -i 0 -cgi 3g.40gb,2g.20gb,1g.10gb -C",
        "-i 1 -mig 1",
        "mig -i 1 -cgi 3g.40gb,2g.20gb,1g.10gb -C",
    ]
    assert gpus.node.calls().count("--no-block try-restart kubelet.service") == 0

    gpus.give(mig_3g_40gb=2, mig_2g_20gb=2, mig_1g_10gb=2)
    assert gpus.look() == WELL
    assert gpus.changes() == []
    found = gpus.written()
    assert found["mig"] == [
        {"index": n, "current": "Enabled", "pending": "Enabled", "profiles": MADE, "instances": 3}
        for n in (0, 1)
    ]
    assert (found["plugin"], found["migFailure"]) == (6, "")
    known = gpus.node.rack.operator("GET", "/v1/gpus").json or {}
    assert known["nodes"][0]["mig"] == found["mig"]


def test_a_pool_that_says_nothing_of_mig_has_nobody_ask_or_change_anything(gpus: MigMachine) -> None:
    wants(gpus, None)
    gpus.be_parted(0, "7g.80gb")
    gpus.offer(2)

    assert gpus.look() == WELL
    assert (gpus.asked(), gpus.parts()[0]) == ([], ["7g.80gb"])
    assert gpus.written()["mig"] == []
    assert not gpus.made.exists()


def test_a_plugin_that_counted_before_counts_anew_with_kubelet(gpus: MigMachine) -> None:
    gpus.offer(2)
    gpus.node.calls()
    gpus.look()

    assert gpus.node.calls() == ["--no-block try-restart kubelet.service"]
    gpus.look()
    assert gpus.node.calls() == []


def test_one_profile_is_made_as_often_as_it_fits(gpus: MigMachine) -> None:
    wants(gpus, "1g.20gb")
    gpus.give(gpu=8)

    assert gpus.look() == WELL
    assert gpus.parts() == [["1g.20gb"] * 4] * 2


def test_nothing_is_changed_while_a_program_or_a_pod_uses_a_gpu(gpus: MigMachine) -> None:
    gpus.put("pids", "4711\n4712\n4711\n")
    assert gpus.look() == ("mig-mismatch", "process 4711 process 4712 uses GPUs: drain this node")
    gpus.put("pids")
    gpus.checkpoint({"nvidia.com/gpu": ["GPU-0", "GPU-1"]}, ("gone", "there"))
    (gpus.folder / "pods/there").mkdir(parents=True)
    assert gpus.look() == ("mig-mismatch", "pod there uses GPUs: drain this node")
    assert (gpus.changes(), gpus.modes(), gpus.made.exists()) == ([], [OFF, OFF], False)

    (gpus.folder / "pods/there").rmdir()
    gpus.look()
    assert gpus.parts() == [MADE, MADE]


def test_when_nobody_can_say_who_uses_them_nothing_is_changed(gpus: MigMachine) -> None:
    gpus.put("plugins/kubelet_internal_checkpoint", "{")

    state, reason = gpus.look()

    assert (state, reason.endswith("kubelet_internal_checkpoint cannot be read")) == ("mig-mismatch", True)
    assert gpus.changes() == []


def test_a_mode_that_waits_for_a_reset_is_told_for_all_gpus_at_once(gpus: MigMachine) -> None:
    gpus.put("client")

    reason = (
        "MIG mode of GPU 0 is pending, and waits for a reset of the GPU: drain this node and start it anew"
        " (Warning: MIG mode is in pending enable state for GPU 00000000:01:00.0:In use by another client)"
    )
    assert gpus.look() == ("mig-mismatch", reason)
    assert gpus.modes() == [("Disabled", "Enabled")] * 2
    found = gpus.written()["mig"]
    assert [(one["current"], one["pending"]) for one in found] == [("Disabled", "Enabled")] * 2

    gpus.start_anew(is_kept=True)
    assert gpus.look() == WAITS
    assert gpus.parts() == [MADE, MADE]


def test_what_a_restart_takes_away_is_made_again(gpus: MigMachine) -> None:
    """Instances are gone after any, the mode after one of Hopper and later."""
    gpus.look()
    for is_kept in (True, False):
        gpus.start_anew(is_kept=is_kept)
        assert gpus.look() == WAITS
        assert (gpus.modes(), gpus.parts()) == ([ON, ON], [MADE, MADE])


def test_other_instances_and_such_without_compute_instances_are_replaced(gpus: MigMachine) -> None:
    gpus.be_parted(0, "7g.80gb")
    gpus.be_parted(1, *MADE, usable=False)

    assert gpus.look() == WAITS
    assert gpus.parts() == [MADE, MADE]
    assert gpus.changes()[0] == "mig -i 0 -dci"


def test_half_of_what_is_wanted_is_not_left(gpus: MigMachine) -> None:
    gpus.put("no-room")

    assert gpus.look() == (
        "mig-mismatch",
        "GPU 0: Unable to create a GPU instance on GPU 0 using profile 9: Insufficient Resources",
    )
    assert gpus.parts() == [[], []]
    assert gpus.written()["migFailure"].startswith("GPU 0: Unable to create")


def test_a_pool_that_drops_its_section_gets_whole_gpus_back(gpus: MigMachine) -> None:
    gpus.look()
    wants(gpus, None)
    gpus.put("pids", "99\n")
    assert gpus.look() == ("mig-mismatch", "process 99 uses GPUs: drain this node")
    assert gpus.parts() == [MADE, MADE]

    gpus.put("pids")
    gpus.offer(2)
    assert gpus.look() == WELL
    assert (gpus.modes(), gpus.parts(), gpus.made.exists()) == ([OFF, OFF], [[], []], False)
    assert gpus.written()["mig"] == []
    gpus.asked()
    gpus.look()
    assert gpus.asked() == []


def test_what_others_made_stays_when_a_pool_drops_its_section(gpus: MigMachine) -> None:
    """GPU 0 was right before we looked; of GPU 1 the mode was on, and somebody parted it anew after us."""
    gpus.be_parted(0, *MADE)
    gpus.be_parted(1)
    gpus.look()
    assert gpus.made.read_text().split()[1:] == ["no", ",".join(MADE)]
    gpus.be_parted(1, "7g.80gb")
    wants(gpus, None)
    gpus.offer(2)
    gpus.changes()

    assert gpus.look() == WELL
    assert (gpus.changes(), gpus.parts()) == ([], [MADE, ["7g.80gb"]])
    assert "GPU 1 has instances that are not ours (7g.80gb): left as they are" in gpus.said


def test_a_mode_that_was_on_before_stays_on_without_our_instances(gpus: MigMachine) -> None:
    gpus.be_parted(0)
    gpus.look()
    wants(gpus, None)
    gpus.look()

    assert (gpus.modes(), gpus.parts()) == ([ON, OFF], [[], []])


def test_a_mode_that_cannot_go_off_yet_is_remembered(gpus: MigMachine) -> None:
    gpus.look()
    wants(gpus, None)
    gpus.put("client")
    state, reason = gpus.look()
    assert (state, "MIG mode of GPU 0 is pending" in reason) == ("mig-mismatch", True)

    gpus.start_anew(is_kept=True)
    gpus.offer(2)
    assert gpus.look() == WELL
    assert not gpus.made.exists()


def test_an_answer_that_is_no_list_is_not_taken_for_an_empty_one(gpus: MigMachine) -> None:
    gpus.be_parted(0, "7g.80gb")
    gpus.put("forbidden")

    assert gpus.look() == (
        "mig-mismatch",
        "nvidia-smi mig -lgi: No GPU instances found: Insufficient Permissions",
    )
    assert gpus.changes() == []


def test_what_cannot_be_remembered_is_not_made(gpus: MigMachine) -> None:
    gpus.made.parent.mkdir(exist_ok=True)
    (gpus.made.parent / "mig.new").mkdir()

    state, reason = gpus.look()

    assert (state, reason.endswith("/gpu/mig cannot be written")) == ("mig-mismatch", True)
    assert gpus.changes() == []


def test_a_gpu_that_has_no_mig_mode_is_told(gpus: MigMachine) -> None:
    gpus.be_parted(1, mode="[N/A]")

    assert gpus.look() == ("mig-mismatch", "GPU 1 has no MIG mode: [N/A]")
    assert gpus.parts()[0] == MADE
