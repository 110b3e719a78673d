"""What a host may be like that apply must not work on: one clear line with the remedy, and the other host is fine."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.apply import control_plane, probe
from bootstrap.apply.plan import Probe
from bootstrap.host_errors import KeyChanged, UnknownKey, fingerprint
from bootstrap.kubernetes.tree import HostTree
from bootstrap.model import Cluster
from bootstrap.ssh import key_file
from tests.system.apply_lab import CONF, UNIT, Hosts, found_on, hosts, tree

pytestmark = pytest.mark.system

NAME = f"refusals{os.getpid()}"
WANTED = (
    {"name": "m1", "address": "10.77.0.11"},
    {"name": "m2", "address": "10.77.0.12", "user": "core", "port": 2222},
)
BOTH = ("m1", "m2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(NAME, tmp_path_factory.mktemp("refusals"), WANTED) as running:
        yield running


@pytest.fixture
def made(whole: Hosts, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Both hosts, with nothing of ours on them."""
    monkeypatch.setattr(probe, "ACTIVE_SECONDS", 0.1)
    for name in BOTH:
        whole.clean(name)
    return whole


def trees(version: int = 1, program: Path = Path("/bin/sleep")) -> tuple[HostTree, ...]:
    return tuple(tree(name, version, program) for name in BOTH)


def only_m2_fails(made: Hosts, *, words: str, version: int = 1) -> str:
    """Apply to both; m1 is done all the same, and m2's line, which is returned, holds `words`."""
    outcome, said = made.apply(*trees(version))

    assert list(outcome.failed) == ["m2"], said
    assert outcome.exit_code == 3
    assert made.run("m1", "cat", CONF) == f"version {version}"
    assert made.run("m1", "systemctl", "is-active", UNIT) == "active"
    line = outcome.failed["m2"]
    assert words in line
    assert "\n" not in line
    return line


def with_hosts(made: Hosts, **changes: object) -> Hosts:
    """Return the same hosts with another configuration of m2."""
    m1, m2 = made.cluster.control_plane.hosts
    control = made.cluster.control_plane.model_copy(update={"hosts": (m1, m2.model_copy(update=changes))})
    cluster: Cluster = made.cluster.model_copy(update={"control_plane": control})
    return Hosts(made.rack, made.work, cluster)


def test_a_changed_host_key_stops_the_run_and_changes_nothing(made: Hosts) -> None:
    known = made.cluster.control_plane.hosts[1].host_key
    assert known
    made.run("m2", "sh", "-c", "cp -a /etc/ssh/ssh_host_ed25519_key* /root/")
    new_key = (
        "rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -qt ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"
    )
    shown = made.run("m2", "sh", "-c", f"{new_key}; systemctl restart ssh; cat /etc/ssh/*_key.pub")
    try:
        with pytest.raises(KeyChanged) as caught:
            made.apply(*trees())
    finally:
        back = made.root("m2")
        for path in (back / "root").glob("ssh_host_ed25519_key*"):
            path.replace(back / "etc/ssh" / path.name)
        pid = next(pid for pid in made.rack.hosts.container("m2").pids() if is_sshd(pid))
        os.kill(pid, 1)  # SIGHUP: it reads its keys again
        time.sleep(0.5)

    text = str(caught.value)
    assert text.startswith("host m2 (core@10.77.0.12 port 2222) has another key than the known one")
    assert fingerprint(known) in text
    assert fingerprint(shown) in text
    assert found_on(made.root("m1")) == found_on(made.root("m2")) == {}


def is_sshd(pid: int) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"sshd" in command and b"listener" in command


def test_an_unknown_key_is_refused_with_the_line_to_write_and_taken_when_a_person_says_yes(
    made: Hosts,
) -> None:
    known = made.cluster.control_plane.hosts[1].host_key
    assert known
    key = " ".join(known.split()[:2])
    bare = with_hosts(made, host_key=None)
    asked: list[str] = []
    file = key_file(bare.site(()).way, bare.cluster.control_plane.hosts[1])

    def answer(question: str) -> bool:
        asked.append(question)
        return len(asked) > 1

    with pytest.raises(UnknownKey, match="its key is not known yet") as caught:
        bare.apply(*trees())
    with pytest.raises(UnknownKey):
        bare.apply(*trees(), ask=answer)
    assert f'hostKey: "{key}"' in str(caught.value)
    assert found_on(made.root("m1")) == {}
    assert not file.exists()

    outcome, said = bare.apply(*trees(), ask=answer)
    assert outcome.exit_code == 0, said
    assert fingerprint(key) in asked[0]
    assert file.read_text() == f"{key}\n"

    again, _ = bare.apply(*trees())
    file.unlink()
    assert (again.exit_code, again.changes, len(asked)) == (0, 0, 2)


def test_a_user_without_sudo(made: Hosts) -> None:
    sudoers = made.root("m2") / "etc/sudoers.d/firstlight-lab"
    rule = sudoers.read_bytes()
    sudoers.write_bytes(b"")
    try:
        line = only_m2_fails(made, words="core may not run sudo without a password")
    finally:
        sudoers.write_bytes(rule)
    assert "core ALL=(ALL) NOPASSWD: ALL" in line
    assert found_on(made.root("m2")) == {}


def test_a_user_whose_key_is_not_taken(made: Hosts) -> None:
    keys = made.root("m2") / "home/core/.ssh/authorized_keys"
    content = keys.read_bytes()
    keys.write_bytes(b"")
    try:
        line = only_m2_fails(made, words="lets nobody in with your keys")
    finally:
        keys.write_bytes(content)
    assert "~core/.ssh/authorized_keys" in line


def test_a_host_without_an_ssh_server(made: Hosts) -> None:
    other = with_hosts(made, port=2299)
    line = only_m2_fails(other, words="refuses the connection")

    assert "port 2299" in line


def test_a_host_that_is_down_and_comes_back(made: Hosts) -> None:
    made.rack.power_off("m2")
    try:
        only_m2_fails(made, words="does not answer: is it switched on")
    finally:
        made.rack.power_on("m2")
        made.rack.hosts.await_ssh("m2")
    outcome, said = made.apply(*trees())

    assert outcome.exit_code == 0, said
    assert [step.host for step in outcome.done if not isinstance(step, Probe)] == ["m2", "m2"]


def test_a_full_disk_is_foretold(made: Hosts, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").read_bytes() + bytes(20 * 1024 * 1024))
    with small_disk(made, "/opt"):
        outcome, said = made.apply(*trees(program=program))
        assert outcome.exit_code == 3, said
        assert "no room for 21 MiB below /opt" in outcome.failed["m2"]
        assert found_on(made.root("m2")) == {}


def test_a_disk_that_fills_on_the_way_leaves_what_was_there(
    made: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").read_bytes() + bytes(40 * 1024 * 1024))
    monkeypatch.setattr(control_plane, "no_room", lambda *_: None)
    with small_disk(made, "/opt"):
        first, said = made.apply(*trees())
        assert first.exit_code == 0, said
        pid = made.pid("m2")
        outcome, said = made.apply(*trees(2, program))

        assert list(outcome.failed) == ["m2"], said
        assert "its disk is full" in outcome.failed["m2"]
        assert "make room there, then run this again" in outcome.failed["m2"]
        assert made.run("m2", "cat", CONF) == "version 1"
        assert made.pid("m2") == pid
        assert made.run("m2", "find", "/etc", "/opt", "/var/lib", "-name", "*.firstlight") == ""

        second, said = made.apply(*trees(2))
        assert second.exit_code == 0, said
        assert made.run("m2", "cat", CONF) == "version 2"


class small_disk:  # noqa: N801  # reads as a context
    """A file system of 32 MiB at `path` of m2."""

    def __init__(self, made: Hosts, path: str) -> None:
        self.made, self.path = made, path

    def __enter__(self) -> None:
        self.made.run("m2", "mount", "-t", "tmpfs", "-o", "size=32M,mode=755", "none", self.path)

    def __exit__(self, *_: object) -> None:
        self.made.run("m2", "sh", "-c", f"systemctl stop {UNIT} 2>/dev/null; umount {self.path}")


def test_a_file_that_is_not_ours_is_not_touched(made: Hosts) -> None:
    made.run("m2", "sh", "-c", f"mkdir -p /etc/fl-app && echo mine >{CONF}")
    line = only_m2_fails(made, words=f"{CONF} is there already and not ours")

    assert f"mv {CONF} {CONF}.old" in line
    assert made.run("m2", "cat", CONF) == "mine"
    assert list(found_on(made.root("m2"))) == [CONF]

    made.run("m2", "mv", CONF, f"{CONF}.old")
    outcome, said = made.apply(*trees())
    assert outcome.exit_code == 0, said
    assert made.run("m2", "cat", f"{CONF}.old") == "mine"


def test_an_operating_system_that_is_not_supported(made: Hosts) -> None:
    release = made.root("m2") / "etc/os-release"
    content = release.read_bytes()
    target = release.readlink() if release.is_symlink() else None
    release.unlink()
    release.write_text('ID=other\nPRETTY_NAME="Other Linux 7"\n')
    try:
        line = only_m2_fails(made, words="Other Linux 7 on x86_64 is not supported")
    finally:
        release.unlink()
        release.symlink_to(target) if target else release.write_bytes(content)
    assert "install one of: debian, ubuntu, flatcar, fedora" in line


def test_limit_touches_that_host_alone(made: Hosts) -> None:
    outcome, said = made.apply(*trees(), limit=("m2",))

    assert outcome.exit_code == 0, said
    assert found_on(made.root("m1")) == {}
    assert made.run("m2", "cat", CONF) == "version 1"


def test_nothing_is_left_of_the_connections(made: Hosts) -> None:
    made.apply(*trees())

    assert list(Path("/run").glob(f"fl-{os.getpid()}-*")) == []
    assert made.run("m1", "sh", "-c", "flock -n /run/firstlight-host/lock echo free") == "free"
