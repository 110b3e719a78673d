"""configs/node/sync: what another changed in our files, or put beside them, is told and not undone."""

import pytest

from tests.unit.node.appliance import Node
from tests.unit.node.test_sync import CONTAINERD, joined, restarts, running

OURS = "to have ours again: rm "
FOREIGN = "what is not ours goes by hand: rm "


def foreign(machine: Node, text: str) -> None:
    (machine.root / CONTAINERD).write_text(text)


def drift(machine: Node) -> str:
    record = machine.rack.record().running
    return record.drift if record else ""


def test_a_foreign_edit_is_told_with_the_difference_and_its_writer(machine: Node) -> None:
    revision = machine.rack.plan(kubelet="one\n", containerd="one\n")
    joined(machine).sync()
    assert drift(machine) == ""
    foreign(machine, "one\ntheirs\n")
    machine.calls()

    done = machine.sync()

    assert "/etc/containerd/config.toml: firstlight's, changed by another: root at 20" in done.stderr
    assert "\n+theirs\n" in done.stderr.replace("firstlight: ", "")
    assert "to have ours again: rm " in done.stderr
    assert running(machine) == (revision, "")
    assert drift(machine) == "/etc/containerd/config.toml"
    assert restarts(machine) == []
    assert (machine.root / CONTAINERD).read_text() == "one\ntheirs\n"
    events = machine.rack.site.ledger.last_event()
    assert "theirs" not in machine.sync().stderr, "once is enough"
    assert machine.rack.site.ledger.last_event() == events


def test_a_foreign_file_beside_ours_is_told_and_so_is_one_that_is_gone(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", containerd="one\n", nvidia="one\n")
    joined(machine).sync()
    folder = machine.root / "etc/containerd/conf.d"
    (folder / "99-nvidia.toml").write_text("version = 2\n")
    (folder / "50-firstlight-nvidia.toml").unlink()

    done = machine.sync()

    assert "99-nvidia.toml: not firstlight's, and containerd reads it too: root at" in done.stderr
    assert "50-firstlight-nvidia.toml: firstlight's, removed by another" in done.stderr
    assert drift(machine) == (
        "/etc/containerd/conf.d/50-firstlight-nvidia.toml, /etc/containerd/conf.d/99-nvidia.toml"
    )


def test_what_was_told_goes_when_ours_is_put_back(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", containerd="one\n")
    joined(machine).sync()
    foreign(machine, "theirs\n")
    machine.sync()
    machine.calls()

    (machine.folder / "state/current").unlink()
    assert machine.sync().returncode == 0

    assert (machine.root / CONTAINERD).read_text() == "one\n"
    assert restarts(machine) == ["restart containerd.service", "restart kubelet.service"]
    assert drift(machine) == ""


def test_the_next_revision_undoes_a_foreign_edit(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", containerd="one\n")
    joined(machine).sync()
    foreign(machine, "theirs\n")
    machine.sync()

    machine.rack.plan(kubelet="two\n", containerd="one\n")
    machine.sync()

    assert (machine.root / CONTAINERD).read_text() == "one\n"
    assert drift(machine) == ""


def test_a_foreign_name_cannot_say_more_than_a_name(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", containerd="one\n", nvidia="one\n")
    joined(machine).sync()
    (machine.root / 'etc/containerd/conf.d/a","arm":"x.toml').write_text("")

    assert machine.sync().returncode == 0
    assert drift(machine) == "/etc/containerd/conf.d/a???arm???x.toml"


def test_a_foreign_file_is_not_said_to_go_by_what_does_not_remove_it(machine: Node) -> None:
    """The advice was to forget the revision, which puts our files and leaves theirs."""
    machine.rack.plan(kubelet="one\n", containerd="one\n", nvidia="one\n")
    joined(machine).sync()
    theirs = machine.root / "etc/containerd/conf.d/it's 99.toml"
    theirs.write_text("version = 2\n")

    done = machine.sync()

    assert OURS not in done.stderr
    command = done.stderr.partition(FOREIGN)[2].partition(", and systemctl")[0]
    assert command == "'/etc/containerd/conf.d/it'\\''s 99.toml'"

    foreign(machine, "theirs\n")
    assert OURS in machine.sync().stderr


def test_a_changed_mode_is_told(machine: Node) -> None:
    machine.rack.plan(kubelet="one\n", containerd="one\n")
    joined(machine).sync()
    (machine.root / CONTAINERD).chmod(0o666)

    done = machine.sync()

    assert (
        "/etc/containerd/config.toml: firstlight's, of mode 644, which another changed to 666" in done.stderr
    )
    assert drift(machine) == "/etc/containerd/config.toml"


def test_of_many_paths_as_many_as_fit_are_told_and_a_later_one_is_news(machine: Node) -> None:
    """What was told was cut in the middle, so that nothing after the cut was ever news."""
    machine.rack.plan(kubelet="one\n", containerd="one\n", nvidia="one\n")
    joined(machine).sync()
    folder = machine.root / "etc/containerd/conf.d"
    for number in range(9):
        (folder / f"6{number}-theirs.toml").write_text("")
    machine.sync()
    first = drift(machine)

    (folder / "99-last.toml").write_text("")
    machine.sync()

    *paths, last = drift(machine).split(", ")
    assert paths == [f"/etc/containerd/conf.d/6{number}-theirs.toml" for number in range(3)]
    assert last == "/etc/containerd/conf.d/63-theirs.toml and 6 more"
    assert first.endswith(" and 5 more")


@pytest.mark.parametrize(
    ("paths", "text", "is_told"),
    [
        ("/usr/lib/systemd/system/containerd.service.d/10-nvidia.conf", "ExecStart=/containerd --config x", True),
        ("/etc/systemd/system/containerd.service.d/99-x.conf", "Environment=CONTAINERD_CONFIG=/x", True),
        ("/etc/systemd/system/containerd.service.d/99-proxy.conf", "Environment=HTTPS_PROXY=http://x", False),
        ("/usr/lib/systemd/system/service.d/10-timeout-abort.conf", "ExecStart=/x", False),
    ],
)  # fmt: skip
def test_a_foreign_drop_in_that_has_containerd_read_another_file_is_told(
    machine: Node, paths: str, text: str, *, is_told: bool
) -> None:
    machine.rack.plan(kubelet="one\n", containerd="one\n")
    joined(machine).sync()
    (machine.folder / "drop-ins").write_text(f"{paths}\n")
    file = machine.root / paths.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"[Service]\nExecStart=\n{text}\n")

    done = machine.sync()

    assert drift(machine) == (paths if is_told else "")
    assert ("and containerd's unit reads it too" in done.stderr) is is_told


@pytest.mark.parametrize(("theirs", "is_told"), [("05-nvidia.conf", False), ("99-nvidia.conf", True)])
def test_a_drop_in_that_ours_takes_back_is_no_news(machine: Node, theirs: str, *, is_told: bool) -> None:
    machine.rack.plan(kubelet="one\n", drop_in="[Service]\n")
    joined(machine).sync()
    folder = "/etc/systemd/system/containerd.service.d"
    (machine.root / folder.lstrip("/") / theirs).write_text("[Service]\nExecStart=/x\n")
    paths = sorted((f"{folder}/{theirs}", f"{folder}/10-firstlight.conf"))
    (machine.folder / "drop-ins").write_text(" ".join(paths) + "\n")

    machine.sync()

    assert drift(machine) == (f"{folder}/{theirs}" if is_told else "")
