"""Apply cut off anywhere, and done again: a host ends up as if nothing had happened, and a third run changes nothing.

S-11: after every step of the operator's side, and at every step of the host's, by a kill, a reset and a hang.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bootstrap import failpoints
from bootstrap.apply import host as host_module
from bootstrap.apply import probe
from bootstrap.apply.host import Deadlines, RemoteHost
from bootstrap.host_errors import Locked
from bootstrap.ssh import Connections
from tests.system.apply_lab import CONF, EXTRAS, UNIT, Hosts, expected, found_on, hosts, tree
from tests.system.spine import ROOT
from tests.tier import Promise, rounds

pytestmark = pytest.mark.system

NAME = f"cuts{os.getpid()}"
HOST = "m1"
WANTED = ({"name": HOST, "address": "10.77.0.11", "user": "core"},)
VERSIONS = itertools.count(1)
DRIVER = (sys.executable, "-m", "tests.system.apply_driver")
HANG = Deadlines(look=10, put=2, units=4)
POINTS = (
    *("staged", "dressed", "claimed", f"renamed {CONF}", "removed OLD", "swapped", "listed"),
    *("reload", f"enable {UNIT}", f"restart {UNIT}", f"stamp {UNIT}"),
)
ACTIONS = {
    "kill": "kill -9 $$",
    # The SSH server's process of this connection: the first of our ancestors that is one.
    "reset": 'kill -9 "$(server)"',
    "hang": "kill -STOP $$",
}
FIRST = {"kill": 0, "reset": 0, "hang": rounds(1, 0)}
"""Where CI begins: a hang is tried where a reset is not."""
SERVER = """
server() {
    p=$$
    until case $(cat /proc/$p/comm) in sshd*) true ;; *) false ;; esac; do
        p=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$p/status)
    done
    echo "$p"
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts(NAME, tmp_path_factory.mktemp("cuts"), WANTED) as running:
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ACTIVE_SECONDS", 0.1)


def cut_at(patched: pytest.MonkeyPatch, point: str, action: str) -> None:
    """Have the script act at `point`, where the product's does nothing."""
    body = f"{SERVER}point() {{\n    [ \"$1\" = '{point}' ] || return 0\n    {ACTIONS[action]}\n}}\n"
    text = host_module.SCRIPT.read_text()
    assert text.count("point() { :; }\n") == 1
    cutting = text.replace("point() { :; }\n", body).encode()
    patched.setattr(host_module, "script", lambda: cutting)


def converges(made: Hosts, version: int) -> None:
    """Apply again and look: as it should be, byte for byte; and again: nothing changes."""
    wanted = tree(HOST, version)
    second, said = made.apply(wanted)
    assert second.exit_code == 0, said
    assert found_on(made.root(HOST)) == expected(NAME, wanted)
    pid = made.pid(HOST)

    third, said = made.apply(wanted)

    assert (third.exit_code, third.changes) == (0, 0), said
    assert found_on(made.root(HOST)) == expected(NAME, wanted)
    assert made.pid(HOST) == pid


def next_version(made: Hosts) -> int:
    """Return a version that the host does not have yet; it has the one before."""
    if not (made.root(HOST) / CONF[1:]).exists():
        outcome, said = made.apply(tree(HOST, next(VERSIONS)))
        assert outcome.exit_code == 0, said
    return next(VERSIONS)


def driven(made: Hosts, version: int, setting: str) -> subprocess.CompletedProcess[str]:
    """Apply in a process of its own, which ends as `setting` says."""
    asked = {"name": NAME, "work": str(made.work), "version": version, "hosts": WANTED}
    environment = {**os.environ, failpoints.VARIABLE: setting}
    return subprocess.run(
        DRIVER,
        input=json.dumps(asked),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_first_run_and_a_second_one(made: Hosts) -> None:
    version = next(VERSIONS)
    first, said = made.apply(tree(HOST, version))

    assert (first.exit_code, first.changes) == (0, 2), said
    assert found_on(made.root(HOST)) == expected(NAME, tree(HOST, version))
    key = made.root(HOST) / "etc/fl-app/key"
    assert key.stat().st_mode & 0o777 == 0o640
    assert made.run(HOST, "stat", "-c", "%U:%G", "/etc/fl-app/key") == "root:fl-app"
    converges(made, version)


def test_no_secret_is_on_a_command_line_or_in_a_log_of_the_host(made: Hosts) -> None:
    made.apply(tree(HOST, next_version(made)))
    journal = made.run(HOST, "journalctl", "--no-pager", "-o", "cat")

    assert "hidden-" not in journal
    assert "sudo" in journal  # it was looked at


def test_deploy_py_killed_before_and_after_each_step(made: Hosts, promise: Promise) -> None:
    cut = 0
    for place in ("before", "after"):
        for number in range(1, 10):
            version = next_version(made)
            done = driven(made, version, f"apply.step.{place}=kill@{number}")
            if done.returncode == 0:
                break
            assert done.returncode == -signal.SIGKILL, done.stderr
            cut += 1
            converges(made, version)
    assert cut >= 6  # files, restart, probe; before and after
    promise(
        promise="S-11 apply, killed", asked="all converge", done=f"{cut} cuts", found="0 differ, 0 changes"
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_the_hosts_side_cut_at_each_step(
    made: Hosts, action: str, monkeypatch: pytest.MonkeyPatch, promise: Promise
) -> None:
    points = POINTS[FIRST[action] :: rounds(1 if action == "kill" else 2, 1)]
    for point in points:
        version = next_version(made)
        with monkeypatch.context() as patched:
            cut_at(patched, point.replace("OLD", EXTRAS[(version - 1) % 2]), action)
            deadlines: dict[str, Any] = {"deadlines": HANG} if action == "hang" else {}
            outcome, said = made.apply(tree(HOST, version), **deadlines)
        assert outcome.exit_code == 1, (point, said)
        assert list(outcome.failed) == [HOST]
        assert "run this again" in outcome.failed[HOST], point
        converges(made, version)
    promise(
        promise=f"S-11 apply, {action} on the host",
        asked="all converge",
        done=f"{len(points)} of {len(POINTS)} steps",
        found="0 differ, 0 changes",
    )


def test_a_connection_that_freezes_is_noticed_and_the_next_run_takes_over(
    made: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = next_version(made)
    monkeypatch.setitem(ACTIONS, "freeze", 'kill -STOP "$(server)" $$')
    with monkeypatch.context() as patched:
        cut_at(patched, "claimed", "freeze")
        outcome, _ = made.apply(tree(HOST, version))

    assert outcome.exit_code == 1
    assert "the connection broke" in outcome.failed[HOST]
    converges(made, version)


@contextmanager
def holding(made: Hosts) -> Iterator[None]:
    """Hold the host as another operator's run does."""
    (host,) = made.cluster.control_plane.hosts
    with Connections(made.site(()).way) as connections:
        remote = RemoteHost(connections, host, "another-work-folder")
        with remote.held("somebody@laptop (deploy.py pid 7, since 09:00)"):
            yield


def test_a_second_operator_is_told_who_works_there_and_changes_nothing(made: Hosts) -> None:
    version = next_version(made)
    before = found_on(made.root(HOST))
    with holding(made):
        with pytest.raises(
            Locked, match=rf"^host {HOST}: somebody@laptop \(deploy\.py pid 7.* works on it; wait"
        ):
            made.apply(tree(HOST, version))
        assert found_on(made.root(HOST)) == before

    converges(made, version)


def test_an_operator_whose_laptop_died_is_forgotten(made: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection hangs half open, which the host's kernel may not notice for hours."""
    monkeypatch.setattr(host_module, "SIGN_SECONDS", 1000.0)
    version = next_version(made)
    with holding(made):
        old = "read -r up rest </proc/uptime; echo $((${up%.*} - 31)) >/run/firstlight-host/beat"
        made.run(HOST, "sh", "-c", old)
        outcome, said = made.apply(tree(HOST, version))
    assert outcome.exit_code == 0, said
    converges(made, version)
