"""The script that makes real Kubernetes: what it makes, how soon a second run ends, and what a cut one leaves."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bootstrap import binaries
from bootstrap.model import Cluster
from bootstrap.programs import CONTROL_PLANE, DATABASE, NODE, OPTIONAL
from tests.system.lab_rack import DOCUMENT
from tests.system.spine import CACHE, ROOT

pytestmark = pytest.mark.system

SCRIPT = ROOT / "tests" / "kubernetes" / "build"


@pytest.fixture(scope="module")
def folder() -> Path:
    """What the script makes; with an empty cache the first call takes minutes."""
    made = subprocess.run([SCRIPT, CACHE], check=True, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.strip())


def test_the_binaries_are_what_a_cluster_of_that_version_needs(folder: Path) -> None:
    document = {
        **DOCUMENT,
        "controlPlane": {"hosts": [{"name": "m1", "address": "10.77.0.11"}]},
        "etcd": {"members": ["m1"]},
        "kubernetes": {
            **DOCUMENT["kubernetes"],
            "version": "v1.20.2",
            "binaries": {"build": f"{SCRIPT}"},
        },
    }
    found = binaries.resolve(Cluster.model_validate(document), base=ROOT, cache=CACHE)

    programs = {*CONTROL_PLANE, *DATABASE, *NODE, *OPTIONAL}
    assert set(found) == {*programs, "busybox.tar", "pause.tar"}
    assert {file.path.parent for file in found.values()} == {folder.resolve()}
    assert (folder.parent / "current").resolve() == folder.resolve()
    for name in binaries.VERSIONED | {"kubectl"}:
        shown = subprocess.run(
            ["file", "-bL", folder / name], check=True, capture_output=True, text=True
        ).stdout
        assert "statically linked" in shown, name


def test_a_second_run_answers_at_once_and_needs_no_network(folder: Path) -> None:
    began = time.monotonic()
    again = subprocess.run(
        ["unshare", "--net", SCRIPT, CACHE], check=True, capture_output=True, text=True, timeout=60
    )

    assert again.stdout == f"{folder}\n"
    assert again.stderr == ""
    assert time.monotonic() - began < 10


def test_a_run_that_is_cut_leaves_nothing_half_made(tmp_path: Path) -> None:
    with subprocess.Popen(
        [SCRIPT, tmp_path], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stderr is not None
        while "downloading" not in run.stderr.readline():
            assert run.poll() is None
        os.killpg(run.pid, signal.SIGTERM)
        run.stderr.read()

    assert run.returncode != 0
    assert [path.name for path in (tmp_path / "kubernetes").iterdir()] == ["lock"]


def test_what_a_killed_run_left_goes_with_the_next(folder: Path, tmp_path: Path) -> None:
    """The next run takes the finished folder and does not look further; one that builds clears up first."""
    cache = tmp_path / "kubernetes"
    (cache / "building-killed" / "out").mkdir(parents=True)
    with subprocess.Popen(
        [SCRIPT, tmp_path], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stderr is not None
        run.stderr.readline()
        assert not (cache / "building-killed").exists()
        os.killpg(run.pid, signal.SIGTERM)
        run.stderr.read()
    shutil.copytree(folder, cache / folder.name, symlinks=True, copy_function=os.link)

    found = subprocess.run([SCRIPT, tmp_path], check=True, capture_output=True, text=True)

    assert found.stdout == f"{cache / folder.name}\n"
