"""Another appliance starts from the folder of a mirror, in a network namespace that has no route anywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import mirror_site as makers
from tests.system.mirror_rack import ROOT, SECONDS, Rack, command, environment
from tests.system.mirror_site import Server

pytestmark = pytest.mark.system

OFFLINE = """
import sys
from pathlib import Path
from bootstrap import binaries, config
cluster = config.load([Path(sys.argv[1])])
found = binaries.resolve(cluster, base=Path(sys.argv[1]).parent, cache=Path(sys.argv[2]))
print("\\n".join(f"{name} {file.path}" for name, file in sorted(found.items())))
"""


def offline(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run `argv` in a network namespace of its own, which has no route anywhere."""
    return subprocess.run(
        ["unshare", "--net", *argv],
        cwd=ROOT,
        env=environment(PYTHONPATH=f"{ROOT}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_another_appliance_starts_from_the_folder_with_no_internet(
    rack: Rack, server: Server, tmp_path: Path
) -> None:
    assert rack("mirror", "pull")[0] == 0
    server.site = None  # and no server answers either
    other = tmp_path / "stick"
    rack.folder.rename(other)
    moved = Rack(other, rack.capture)

    assert offline("ip", "route").stdout == ""
    for verb in (
        ("check",),
        ("mirror", "verify"),
        ("mirror", "list"),
        ("render", "--output", f"{tmp_path}/bundle"),
    ):
        done = offline(*command(moved, *verb))
        assert done.returncode == 0, done.stderr
    found = offline(sys.executable, "-c", OFFLINE, f"{other}/rack.yaml", f"{tmp_path}/cache")

    assert found.returncode == 0, found.stderr
    names = dict(line.split(" ") for line in found.stdout.splitlines())
    image = next(name for name in names if name.endswith(".tar"))
    assert set(names) == {*makers.PROGRAMS, "etcd", "etcdctl", image}
    assert image.startswith("registry.example.net-k8s-pause-3.10-")
    assert all(path.startswith(f"{other}/mirror/") for path in names.values())
    (other / "mirror/kubernetes/v1.36.4/kubelet").write_bytes(makers.program("evil", "Kubernetes v1.36.4"))
    found = offline(sys.executable, "-c", OFFLINE, f"{other}/rack.yaml", f"{tmp_path}/cache")
    assert "kubelet has sha256" in found.stderr, "what was changed on the way is refused"
