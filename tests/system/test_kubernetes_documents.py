"""What a bare control-plane host reads passes the real checkers: ignition-validate and `cloud-init schema`.

Needs Debian's ignition and cloud-init; nothing is applied.
"""

import subprocess
from pathlib import Path

import pytest

from bootstrap.model import Cluster, Host
from bootstrap.render.hosts import host_documents
from tests import samples

pytestmark = pytest.mark.system

MAC = "52:54:00:aa:00:0f"


def clusters() -> dict[str, Cluster]:
    """Return the samples, and the example with a host whose card is known and one that is root's."""
    found = {name: samples.cluster(name) for name in samples.NAMES}
    example = found["example"]
    for name, change in {"card": {"mac": MAC}, "root": {"user": "root", "mac": MAC}}.items():
        host = Host.model_validate({**example.control_plane.hosts[0].model_dump(exclude_none=True), **change})
        plane = example.control_plane.model_copy(update={"hosts": (host,)})
        found[name] = example.model_copy(update={"control_plane": plane})
    return found


DOCUMENTS = [
    pytest.param(path, content, id=f"{name}-{path}")
    for name, cluster in clusters().items()
    for path, content in host_documents(cluster)
]


def of_kind(kind: str) -> list[object]:
    return [each for each in DOCUMENTS if str(each.values[0]).endswith(kind)]


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60
    )


def schema(content: bytes, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "user-data").write_bytes(content)
    return run("cloud-init", "schema", "--config-file", tmp_path / "user-data")


@pytest.mark.parametrize(("path", "content"), of_kind("host.ign"))
def test_ignition_accepts_it_without_a_word(path: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "host.ign").write_bytes(content)
    result = run("ignition-validate", tmp_path / "host.ign")

    assert (path, result.stdout, result.returncode) == (path, "", 0)


@pytest.mark.parametrize(("path", "content"), of_kind("user-data"))
def test_cloud_init_accepts_it(path: str, content: bytes, tmp_path: Path) -> None:
    result = schema(content, tmp_path)

    assert result.returncode == 0, (path, result.stdout)
    assert "Valid cloud-config" in result.stdout
    assert "deprecated" not in result.stdout.lower()


def test_cloud_init_would_complain(tmp_path: Path) -> None:
    result = schema(b"#cloud-config\nhostname: [m1]\nusers: 7\n", tmp_path)

    assert result.returncode != 0
    assert "hostname" in result.stdout


@pytest.mark.parametrize(("path", "content"), of_kind("network-config"))
def test_cloud_init_makes_networkd_s_files_of_it(path: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "network-config").write_bytes(content)
    out = tmp_path / "out"
    words = ("--kind", "yaml", "--output-kind", "networkd", "--distro", "debian", "--directory", out)
    result = run(
        "cloud-init",
        "devel",
        "net-convert",
        "--network-data",
        tmp_path / "network-config",
        *words,
        "-m",
        f"eth0,{MAC}",
    )
    files = "\n".join(file.read_text() for file in out.rglob("*.network"))

    assert result.returncode == 0, (path, result.stdout)
    assert f"MACAddress={MAC}" in files
    assert "Address=192.168.1.10/24" in files
    assert "Gateway=192.168.1.1" in files
    assert "DNS=192.168.1.1" in files
