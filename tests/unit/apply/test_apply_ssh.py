"""The door to the OpenSSH client, without a network: what it is told, and what is made of what it says."""

import os
import subprocess
from pathlib import Path

import pytest

from bootstrap import host_errors, ssh
from bootstrap.errors import HostError
from bootstrap.model.kubernetes import Host
from bootstrap.ssh import Connections, Way
from tests.unit.apply.sample_hosts import KEY, OTHER_KEY

FINGERPRINT = "SHA256:vuZ2SGns+rP2tJHYhcGv8vYEm6u7VzoBc+j3Hp1pgnE"  # by ssh-keygen -l


def host(**more: object) -> Host:
    return Host.model_validate({"name": "m1", "address": "10.0.0.1", "hostKey": KEY, **more})


def told(way: Way, what: Host) -> dict[str, str]:
    """Return the options that the client is started with."""
    with Connections(way) as connections:
        words = connections._argv(what)
    options = [words[number + 1] for number, word in enumerate(words) if word == "-o"]
    return dict(option.split("=", 1) for option in options)


@pytest.mark.parametrize(
    ("stderr", "kind", "remedy"),
    [
        (
            "ssh: connect to host 10.0.0.1 port 22: Connection refused",
            host_errors.HostRefuses,
            "start its SSH server",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: No route to host",
            host_errors.HostDown,
            "is it switched on",
        ),
        (
            "ssh: connect to host 10.0.0.1 port 22: Connection timed out",
            host_errors.HostDown,
            "is it switched on",
        ),
        (
            "ssh: Could not resolve hostname m1: Name or service not known",
            host_errors.HostDown,
            "`address` below",
        ),
        (
            "root@10.0.0.1: Permission denied (publickey).",
            host_errors.LoginRefused,
            "~root/.ssh/authorized_keys",
        ),
        (
            "client_loop: send disconnect: Broken pipe",
            host_errors.ConnectionLost,
            "it goes on where it was",
        ),
        (
            "Timeout, server 10.0.0.1 not responding.",
            host_errors.ConnectionLost,
            "it goes on where it was",
        ),
        ("", host_errors.ConnectionLost, "no answer any more"),
    ],
)
def test_each_way_to_fail_is_one_line_with_its_remedy(
    stderr: str, kind: type[HostError], remedy: str
) -> None:
    error = host_errors.from_ssh(host(), stderr)

    assert type(error) is kind
    assert error.host == "m1"
    assert str(error).startswith("host m1 (root@10.0.0.1 port 22)")
    assert remedy in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "stderr",
    [
        "sudo: a password is required",
        "bash: line 1: sudo: command not found",
        "sh: 1: sudo: not found",
        "core is not in the sudoers file.",
    ],
)
def test_missing_sudo_is_told_apart_from_a_failed_command(stderr: str) -> None:
    error = host_errors.from_sudo(host(user="core"), 1, stderr)

    assert "core ALL=(ALL) NOPASSWD: ALL" in str(error)
    assert host_errors.from_sudo(host(), 1, stderr) is None
    assert host_errors.from_sudo(host(user="core"), 1, "tar: /opt: No such file") is None
    assert host_errors.from_sudo(host(user="core"), 0, stderr) is None


def test_what_a_host_says_cannot_command_the_terminal() -> None:
    assert "\x1b" not in str(host_errors.from_ssh(host(), "Permission denied \x1b[2J"))


def test_a_fingerprint_is_that_of_ssh_keygen() -> None:
    assert host_errors.fingerprint(KEY) == FINGERPRINT
    assert host_errors.fingerprint("ssh-ed25519") == "(no key)"


def test_a_changed_key_names_both_fingerprints_and_what_to_do() -> None:
    in_config = host_errors.key_changed(host(), host_errors.Known(KEY), OTHER_KEY)
    in_file = host_errors.key_changed(host(), host_errors.Known(KEY, Path("/w/m1.pub")), None)

    for text in map(str, (in_config, in_file)):
        assert FINGERPRINT in text
        assert "nothing was changed" in text
    assert host_errors.fingerprint(OTHER_KEY) in str(in_config)
    assert "write its new key as hostKey there" in str(in_config)
    assert "remove /w/m1.pub" in str(in_file)


def test_a_first_contact_without_a_person_holds_the_line_for_the_configuration() -> None:
    text = host_errors.unknown_key(host(), OTHER_KEY)

    assert f'hostKey: "{OTHER_KEY}"' in text
    assert "/etc/ssh/ssh_host_ed25519_key.pub" in text


def test_the_configuration_knows_better_than_what_was_written_down(tmp_path: Path) -> None:
    way = Way(tmp_path / "known")
    bare = host(hostKey=None)
    assert ssh.known_key(way, bare) is None

    ssh.remember(way, bare, OTHER_KEY)

    assert ssh.known_key(way, bare) == OTHER_KEY
    assert ssh.known_key(way, host()) == KEY
    assert ssh.key_file(way, bare).stat().st_mode & 0o777 == 0o600


def test_a_host_is_trusted_by_its_known_key_alone(tmp_path: Path) -> None:
    options = told(Way(tmp_path), host())

    assert options["StrictHostKeyChecking"] == "yes"
    assert options["BatchMode"] == "yes"
    assert options["GlobalKnownHostsFile"] == "/dev/null"
    assert options["HostKeyAlgorithms"] == "ssh-ed25519"
    assert options["ForwardAgent"] == "no"


def test_the_operators_own_configuration_counts_in_a_real_rack_and_not_in_the_lab(tmp_path: Path) -> None:
    with Connections(Way(tmp_path)) as real, Connections(Way(tmp_path, key=tmp_path / "k")) as lab:
        assert "-F" not in real._argv(host())
        assert lab._argv(host())[1:5] == ("-F", "none", "-i", f"{tmp_path}/k")


@pytest.mark.parametrize("name", ["m", "m" * 63])
def test_the_control_socket_fits_whatever_the_host_is_called(tmp_path: Path, name: str) -> None:
    socket = told(Way(tmp_path), host(name=name))["ControlPath"].strip('"')

    assert len(socket) + len(".0123456789abcdef") < 108


def test_the_folder_for_sockets_is_its_owners_alone_and_goes_away(tmp_path: Path) -> None:
    with Connections(Way(tmp_path)) as connections:
        folder = connections.folder
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_what_a_killed_run_left_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(ssh, "LONGEST_RUN_FOLDER", 1000)
    ended = subprocess.Popen(("true",))
    ended.wait()
    left, alive = tmp_path / f"fl-{ended.pid}-abc", tmp_path / f"fl-{os.getppid()}-abc"
    for folder in (left, alive, tmp_path / "fl-lab-x"):
        folder.mkdir()

    with Connections(Way(tmp_path)):
        assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive.name, "fl-lab-x"])
