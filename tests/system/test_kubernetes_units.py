"""Units of the control plane are as closed as they say, and systemd finds nothing wrong with them.

Needs root (a mount namespace of its own) and Debian's systemd.
"""

import re
import subprocess
from pathlib import Path

import pytest

from bootstrap.kubernetes.tree import HostTree
from tests.unit.kubernetes.planes import text_of, tree_of

pytestmark = pytest.mark.system

UNITS = "/etc/systemd/system"
HARDENED = ("etcd", "etcd-snapshot", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
MOST = 5.0
"""The exposure that systemd-analyze itself calls medium; what opens nothing at all has 9.6."""

# systemd wants to see the programs that units start: it gets them, in a mount namespace of its own.
VERIFY = """
mount -t tmpfs none /opt && mkdir -p /opt/firstlight/bin || exit 90
for name in $PROGRAMS; do printf '#!/bin/sh\\n' >/opt/firstlight/bin/$name; chmod 0755 /opt/firstlight/bin/$name; done
exec systemd-analyze verify "$@"
"""


def run(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_COLORS": "0", **environment},
    )


def units_in(tree: HostTree, folder: Path) -> dict[str, Path]:
    """Write the units of `tree` into `folder`; return them by name."""
    found = {}
    for path in tree.files:
        if path.startswith(f"{UNITS}/") and path.count("/") == 4:
            file = folder / path.rpartition("/")[2]
            file.write_text(text_of(tree, path))
            found[file.name] = file
    return found


def exposure(file: Path) -> float:
    """Return what `systemd-analyze security` gives, from 0 (closed) to 10 (open)."""
    result = run("systemd-analyze", "security", "--offline=true", "--no-pager", file)
    match = re.search(r"Overall exposure level for \S+: (\d+\.\d)", result.stdout)
    assert match, result.stdout
    return float(match[1])


@pytest.mark.parametrize("version", ["v1.20.2", "v1.36.4"])
@pytest.mark.parametrize("name", HARDENED)
def test_a_service_of_the_control_plane_is_closed(name: str, version: str, tmp_path: Path) -> None:
    units = units_in(tree_of("lab", version=version), tmp_path)

    assert exposure(units[f"{name}.service"]) < MOST


def test_an_open_service_would_be_told(tmp_path: Path) -> None:
    (tmp_path / "open.service").write_text("[Service]\nExecStart=/bin/true\n")

    assert exposure(tmp_path / "open.service") > 9


@pytest.mark.parametrize("version", ["v1.20.2", "v1.36.4"])
@pytest.mark.parametrize("nodes", [False, True])
def test_systemd_accepts_every_unit(version: str, nodes: bool, tmp_path: Path) -> None:  # noqa: FBT001  # pytest's
    tree = tree_of("lab", version=version, nodes=nodes)
    units = units_in(tree, tmp_path)
    programs = [path.rpartition("/")[2] for path in tree.files if path.startswith("/opt/firstlight/bin/")]
    # A unit that is the host's own is not here to be looked at.
    result = run(
        "unshare", "--mount", "sh", "-c", VERIFY, "verify", *units.values(), PROGRAMS=" ".join(programs)
    )

    assert result.stdout == ""
    assert result.returncode == 0


def test_a_wrong_unit_would_be_told(tmp_path: Path) -> None:
    units = units_in(tree_of("lab"), tmp_path)
    broken = units["etcd.service"].read_text().replace("Restart=always", "Restart=ever\nResart=x")
    units["etcd.service"].write_text(broken)
    result = run("unshare", "--mount", "sh", "-c", VERIFY, "verify", units["etcd.service"], PROGRAMS="etcd")

    assert "Failed to parse service restart specifier" in result.stdout
    assert "Unknown key" in result.stdout
    assert "'Resart'" in result.stdout
