"""configs/node/sync against the real application: what changes, what is restarted, and the way back."""

import os

import pytest

from tests.unit.node.appliance import Node

KUBELET, CONTAINERD = "var/lib/kubelet/config.yaml", "etc/containerd/config.toml"
SERVICES = ("containerd.service", "kubelet.service", "kube-proxy.service")


def restarts(machine: Node) -> list[str]:
    return [call for call in machine.calls() if call.startswith("restart")]


def joined(machine: Node) -> Node:
    machine.pem.parent.mkdir()
    machine.pem.write_text("joined")
    return machine


def running(machine: Node) -> tuple[str, str]:
    record = machine.rack.record().running
    return (record.revision, record.reason) if record else ("", "")


def test_a_node_gets_its_files_and_says_what_it_runs(machine: Node) -> None:
    revision = machine.rack.plan(kubelet="one\n", cni="{}\n")

    done = machine.sync()

    assert done.returncode == 0, done.stderr
    assert (machine.root / KUBELET).read_text() == "one\n"
    assert (machine.root / "etc/firstlight/routes").read_text() == "route\n"
    assert not (machine.root / ".restarts").exists()
    assert running(machine) == (revision, "")


def test_a_second_time_changes_nothing_and_restarts_nothing(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n")
    joined(machine).sync()
    before = {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")}
    events = machine.rack.site.ledger.last_event()
    machine.calls()

    done = machine.sync()

    assert done.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")} == before
    assert restarts(machine) == []
    assert machine.rack.site.ledger.last_event() == events


def test_only_what_reads_something_that_changed_is_restarted_and_in_order(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", containerd="one\n", ca="one\n", cni="one\n")
    joined(machine).sync()
    machine.calls()

    machine.rack.plan(kubelet="one\n", containerd="one\n", ca="one\n", cni="two\n")
    assert machine.sync().returncode == 0
    assert restarts(machine) == []

    machine.rack.plan(kubelet="two\n", containerd="one\n", ca="two\n", cni="two\n")
    assert machine.sync().returncode == 0
    assert restarts(machine) == ["restart kubelet.service", "restart kube-proxy.service"]

    machine.rack.plan(kubelet="three\n", containerd="two\n", ca="two\n", cni="two\n")
    assert machine.sync().returncode == 0
    assert restarts(machine) == ["restart containerd.service", "restart kubelet.service"]


def test_a_file_that_is_served_no_more_goes(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", cni="one\n")
    joined(machine).sync()
    machine.rack.plan(kubelet="one\n")

    assert machine.sync().returncode == 0
    assert not (machine.root / "etc/cni/net.d/10-firstlight.conflist").exists()


def test_what_read_a_file_that_is_gone_is_restarted_and_a_unit_that_is_gone_is_stopped(machine: Node) -> None:
    """A pool that loses its `gpu:` kept containerd with NVIDIA's runtime, and the timer, until the next start."""
    machine.rack.plan(kubelet="one\n", nvidia="one\n", settings="one\n", timer="[Timer]\n")
    joined(machine).sync()
    assert "restart firstlight-gpu.timer" in machine.calls()
    revision = machine.rack.plan(kubelet="two\n")

    assert machine.sync().returncode == 0

    calls = machine.calls()
    assert [call for call in calls if call.startswith("restart")] == [
        "restart containerd.service",
        "restart kubelet.service",
    ]
    assert calls.index("stop firstlight-gpu.timer") < calls.index("daemon-reload")
    assert running(machine) == (revision, "")
    assert not (machine.root / "etc/systemd/system/firstlight-gpu.timer").exists()


def test_what_was_stopped_runs_again_when_its_revision_comes_back(machine: Node) -> None:
    first = machine.rack.plan(kubelet="one\n", nvidia="one\n", settings="one\n", timer="[Timer]\n")
    joined(machine).sync()
    machine.state["well"] = False
    machine.rack.plan(kubelet="two\n")
    machine.calls()

    machine.sync(FL_HEALTH_TRIES="2")

    calls = machine.calls()
    assert calls.index("stop firstlight-gpu.timer") < calls.index("restart firstlight-gpu.timer")
    assert running(machine)[0] == first


def test_cut_off_while_files_go_their_readers_are_restarted_by_the_next_run(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", nvidia="one\n", timer="[Timer]\n")
    joined(machine).sync()
    machine.rack.plan(kubelet="one\n")
    tool = machine.folder / "bin/systemctl"
    before = tool.read_text()
    tool.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    assert machine.sync().returncode != 0
    tool.write_text(before)
    machine.calls()

    assert machine.sync().returncode == 0
    assert {"stop firstlight-gpu.timer", "restart containerd.service"} <= set(machine.calls())


def test_a_unit_file_is_read_again_before_its_unit_is_restarted(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", drop_in="[Service]\n")

    joined(machine).sync()

    assert machine.calls()[0] == "daemon-reload"


def test_a_kubelet_that_does_not_get_well_brings_the_former_files_back(machine: Node) -> None:
    first = machine.rack.plan(kubelet="one\n", cni="one\n")
    joined(machine).sync()
    machine.state["well"] = False
    bad = machine.rack.plan(kubelet="bad\n")
    machine.calls()

    done = machine.sync(FL_HEALTH_TRIES="2")

    assert (machine.root / KUBELET).read_text() == "one\n"
    assert (machine.root / "etc/cni/net.d/10-firstlight.conflist").read_text() == "one\n"
    assert running(machine) == (
        first,
        f"revision {bad[:12]}: kubelet, kube-proxy or containerd was not well within 0 s",
    ) or (running(machine)[0] == first and bad[:12] in running(machine)[1])
    assert restarts(machine).count("restart kubelet.service") == 2
    assert "going back" in done.stderr
    assert (
        "behind plan" in machine.rack.machine()["message"]
        or machine.rack.machine()["running"]["isRolledBack"]
    )


def test_a_revision_that_failed_is_not_tried_at_every_turn_and_a_later_one_is(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n")
    joined(machine).sync()
    machine.state["well"] = False
    bad = machine.rack.plan(kubelet="bad\n")
    machine.sync(FL_HEALTH_TRIES="2")
    machine.state["well"] = True
    machine.calls()

    assert machine.sync().returncode == 0
    assert (machine.root / KUBELET).read_text() == "one\n"
    assert restarts(machine) == []
    assert bad[:12] in running(machine)[1]

    good = machine.rack.plan(kubelet="good\n")
    assert machine.sync().returncode == 0
    assert (machine.root / KUBELET).read_text() == "good\n"
    assert running(machine) == (good, "")


def test_a_revision_that_failed_is_tried_again_later(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n")
    joined(machine).sync()
    machine.state["well"] = False
    bad = machine.rack.plan(kubelet="two\n")
    machine.sync(FL_HEALTH_TRIES="2")
    machine.state["well"] = True
    refused = machine.folder / "state/refused"
    os.utime(refused, (0, 0))

    assert machine.sync().returncode == 0
    assert running(machine) == (bad, "")


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_that_ended_is_not_well_whatever_kubelet_says(machine: Node, unit: str) -> None:
    first = machine.rack.plan(kubelet="one\n")
    joined(machine).sync()
    (machine.folder / f"dead-{unit}").touch()
    machine.rack.plan(kubelet="two\n")

    machine.sync(FL_HEALTH_TRIES="2")

    assert running(machine)[0] == first
    assert (machine.root / KUBELET).read_text() == "one\n"


def test_a_unit_that_cannot_be_restarted_brings_the_former_files_back(machine: Node) -> None:
    first = machine.rack.plan(kubelet="one\n", containerd="one\n")
    joined(machine).sync()
    (machine.folder / "broken-containerd.service").touch()
    machine.rack.plan(kubelet="one\n", containerd="two\n")

    machine.sync()

    assert running(machine)[0] == first
    assert "could not be restarted" in running(machine)[1]
    assert (machine.root / CONTAINERD).read_text() == "one\n"


@pytest.mark.parametrize("cut", ["cp", "mv", "systemctl"])
def test_cut_off_anywhere_the_next_run_restarts_everything_and_converges(machine: Node, cut: str) -> None:
    """Killed after a file and before the restart: what is on the disk already still has to be read by somebody."""
    machine.rack.plan(kubelet="one\n", containerd="one\n")
    joined(machine).sync()
    revision = machine.rack.plan(kubelet="two\n", containerd="two\n")
    tool, real = machine.folder / "bin" / cut, f"/bin/{cut}"
    before = tool.read_text() if tool.exists() else None
    tool.write_text(
        f'#!/bin/sh\ncase "$*" in *containerd*) kill -KILL $PPID; exit 1 ;; esac\nexec {real} "$@"\n'
    )
    tool.chmod(0o755)
    assert machine.sync().returncode != 0
    if before is None:
        tool.unlink()
    else:
        tool.write_text(before)
    machine.calls()

    assert machine.sync().returncode == 0

    assert (machine.root / CONTAINERD).read_text() == "two\n"
    assert (machine.root / KUBELET).read_text() == "two\n"
    assert {"restart containerd.service", "restart kubelet.service"} <= set(restarts(machine))
    assert running(machine) == (revision, "")
    assert not list(machine.root.rglob("*.firstlight"))


def test_before_it_has_joined_nobody_asks_kubelet(machine: Node) -> None:
    machine.state["well"] = False
    revision = machine.rack.plan(kubelet="one\n")

    assert machine.sync().returncode == 0
    assert running(machine) == (revision, "")


def test_what_the_appliance_has_not_heard_is_told_again(machine: Node) -> None:
    revision = machine.rack.plan(kubelet="one\n")
    machine.rack.store.writes_fail = True
    machine.sync()
    machine.rack.store.writes_fail = False
    assert running(machine) == ("", "")

    machine.sync()

    assert running(machine) == (revision, "")


def test_an_appliance_that_is_away_changes_nothing(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n")
    joined(machine).sync()
    env = machine.folder / "etc/node.env"
    env.write_text(env.read_text().replace(machine.server, "https://127.0.0.1:9"))

    done = machine.sync()

    assert "has nothing for this node" in done.stderr
    assert (machine.root / KUBELET).read_text() == "one\n"


def test_a_download_that_is_no_tar_changes_nothing(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n")
    joined(machine).sync()
    machine.rack.plan(kubelet="two\n")
    tool = machine.folder / "bin/tar"
    tool.write_text("#!/bin/sh\nexit 2\n")
    tool.chmod(0o755)

    machine.sync()

    assert (machine.root / KUBELET).read_text() == "one\n"


def test_old_revisions_do_not_pile_up(machine: Node) -> None:
    for number in range(4):
        machine.rack.plan(kubelet=f"{number}\n")
        joined(machine).sync() if number == 0 else machine.sync()

    kept = [path.name for path in (machine.folder / "state").iterdir() if path.is_dir()]
    assert len(kept) == 1
