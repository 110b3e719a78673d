"""check, render and plan need neither root nor any Debian package."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.spine import ROOT

pytestmark = pytest.mark.system

NOBODY = 65534


@pytest.fixture(scope="module", name="checkout")
def fixture_checkout() -> Iterator[Path]:
    """A checkout that belongs to nobody, in a place that nobody can reach."""
    folder = Path("/var/tmp") / f"firstlight-nobody-{os.getpid()}"
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(system_python())
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    yield folder
    shutil.rmtree(folder)


def system_python() -> str:
    """Return a Python that other users can run too: Debian's own, where there is one."""
    debian = Path("/usr/bin/python3")
    return str(debian if debian.exists() else Path(sys.base_prefix) / "bin" / "python3")


def as_nobody(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run deploy.py as nobody, with a PATH that holds python3 and nothing else."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(("PIP_", "SSL_", "REQUESTS_", "http"))
    }
    return subprocess.run(
        [checkout / "bin" / "python3", "deploy.py", "--config", "configs/example.yaml", *arguments],
        cwd=checkout,
        env={**environment, "PATH": str(checkout / "bin"), "HOME": str(checkout)},
        user=NOBODY,
        group=NOBODY,
        extra_groups=(),
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_check_render_and_plan_work_for_nobody_without_any_package(checkout: Path) -> None:
    check = as_nobody(checkout, "check")
    plan = as_nobody(checkout, "plan")
    render = as_nobody(checkout, "render", "--output", "out")

    assert 0 == check.returncode, check.stderr
    assert 0 == plan.returncode, plan.stderr
    assert "add bundle/pxe/dnsmasq.conf" in plan.stdout
    assert not (checkout / "deploy" / "rack1" / "bundle").exists(), "plan writes nothing"
    assert 0 == render.returncode, render.stderr
    assert (checkout / "out" / "pxe" / "dnsmasq.conf").is_file()


def test_what_needs_root_says_so_in_one_line(checkout: Path) -> None:
    for verb in ("up", "serve", "down"):
        refused = as_nobody(checkout, verb)

        assert 1 == refused.returncode, verb
        assert "needs root" in refused.stderr.splitlines()[-1]
        assert "Traceback" not in refused.stderr
