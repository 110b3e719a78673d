"""Ctrl-C at any moment takes back what the run has started, and exits 130."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.spine import BARE, CACHE, HEARS_CTRL_C, ROOT, Site, interrupt, leftovers, running, wait_for
from tests.tier import dice

pytestmark = pytest.mark.system

OVERLAY = "tests/system/overlay-interrupt.yaml"
INTERRUPTED = 130
EARLY_MOMENTS = ("downloading packages", "unpacking packages", "installing packages")
LAST_MOMENT = "making the boot loaders"  # all mounts are there by then, and a chroot's processes


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path) -> Iterator[Site]:
    site = Site(deploy=tmp_path / "deploy", cache=CACHE, configs=(BARE, OVERLAY), name="labint")
    yield site
    site.run("down", timeout=120)


def says(log: Path, text: str) -> bool:
    return log.exists() and text in log.read_text(errors="replace")


@pytest.mark.parametrize("moment", [dice("moment of the image").choice(EARLY_MOMENTS), LAST_MOMENT])
def test_ctrl_c_while_an_image_is_built_leaves_nothing(site: Site, tmp_path: Path, moment: str) -> None:
    """The build starts from an empty cache, and neither a mount, a process nor half an image stays."""
    fresh = Site(deploy=site.deploy, cache=tmp_path / "cache", configs=site.configs, name=site.name)
    log = tmp_path / "log"
    with running(fresh, log=log) as process:
        wait_for(lambda: says(log, moment), moment, timeout=300, every=0.2)
        code = interrupt(process)

    assert INTERRUPTED == code, log.read_text()
    assert [] == leftovers(fresh)
    assert [] == list((tmp_path / "cache" / "building").glob("debian-*"))
    assert [] == list((tmp_path / "cache").glob("images/*.json"))


@pytest.mark.parametrize("moment", ["7/7 serve", "waiting for w1, w2", "w1: installing  write"])
def test_ctrl_c_while_the_rack_comes_up_leaves_nothing(site: Site, tmp_path: Path, moment: str) -> None:
    """The appliance, the machines and the namespace go; what is in the work folder stays."""
    log = tmp_path / "log"
    with running(site, log=log) as process:
        wait_for(lambda: says(log, moment), moment, timeout=600, every=0.1)
        code = interrupt(process)

    assert INTERRUPTED == code, log.read_text()
    assert "taking back" in log.read_text()
    assert [] == leftovers(site)
    assert (site.work / "pki" / "ca.crt").is_file()


def test_ctrl_c_at_random_moments_leaves_nothing(site: Site, tmp_path: Path) -> None:
    """Anywhere in the first seconds, as the dice fall."""
    moments = dice("moments of Ctrl-C")
    for round_ in range(5):
        delay = moments.uniform(0.6, 6.0)
        log = tmp_path / f"log-{round_}"
        with running(site, log=log) as process:
            time.sleep(delay)
            code = interrupt(process)

        assert INTERRUPTED == code, f"round {round_}, after {delay:.2f} s: {log.read_text()}"
        assert [] == leftovers(site), f"round {round_}, after {delay:.2f} s"


def test_ctrl_c_in_a_fork_of_the_network_is_heard_once(tmp_path: Path) -> None:
    """A fork of ours that hears it too must not end us while we take back: a mount and a file stayed."""
    name = "fl-labfork"
    script = [sys.executable, "-m", "tests.system.interrupted_network", name, str(tmp_path)]
    process = subprocess.Popen(
        [*HEARS_CTRL_C, *script], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert "taking back\ntaken back\n" == process.communicate(timeout=60)[0]
        assert 0 == process.returncode
        assert not Path("/run/netns", name).exists()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_ctrl_c_while_the_environment_is_prepared_leaves_no_half_environment(tmp_path: Path) -> None:
    """A fresh checkout, interrupted while pip works, has no .venv; the next start makes it."""
    checkout = tmp_path / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, names.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    argv = [base_python(), "deploy.py", "--config", "configs/example.yaml", "check"]
    process = subprocess.Popen(
        [*HEARS_CTRL_C, *argv], cwd=checkout, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for((checkout / ".venv" / "bin" / "pip").exists, "pip is there", timeout=120, every=0.1)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)

    assert INTERRUPTED == process.wait(60)
    assert not (checkout / ".venv").exists()
    done = subprocess.run(argv, cwd=checkout, check=False, capture_output=True, text=True, timeout=300)
    assert 0 == done.returncode, done.stderr
    again = subprocess.run(argv, cwd=checkout, check=False, capture_output=True, text=True, timeout=60)
    assert (0, "") == (again.returncode, again.stderr), "the second start prepares nothing"


def base_python() -> str:
    """Return an interpreter outside any virtual environment."""
    return str(Path(sys.base_prefix) / "bin" / "python3")
