"""docs/dhcp.md says what the program does."""

import re
from pathlib import Path

import pytest

from bootstrap import config
from bootstrap.render.firmware import TABLE
from pxe import loaders, probe, report
from pxe.events import Event, Kind
from pxe.observe import remark_on
from pxe.supervise import End

TEXT = (Path(__file__).parents[3] / "docs" / "dhcp.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
BASE = """
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {name: docs}
kubernetes: {version: v1.36.4, controlPlaneEndpoint: "192.168.1.10:6443", cni: {plugin: none}}
controlPlane: {hosts: [{name: m1, address: 192.168.1.10}]}
etcd: {members: [m1]}
appliance: {interface: eth0, address: 192.168.1.20/24, dhcp: {range: [192.168.1.100, 192.168.1.199]}}
pools:
  - name: workers
    os: {family: debian, release: "13"}
    disk: {select: {type: nvme}}
machines:
  - {name: w1, mac: "52:54:00:aa:00:01", pool: workers}
"""


def test_table_of_firmware_is_the_programs() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| ([a-z0-9-]+) \| (.*?) \|$", TEXT, re.MULTILINE)
    assert [(tuple(map(int, archs.split(","))), name, loader.strip("`")) for archs, name, loader in rows] == [
        (row.archs, row.name, row.loader or "none") for row in TABLE
    ]


@pytest.mark.parametrize("block", BLOCKS, ids=["modes", "loader"])
def test_configuration_in_the_text_is_one(block: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "block.yaml").write_text(block)
    assert config.load([tmp_path / "base.yaml", tmp_path / "block.yaml"]).metadata.name == "docs"


def test_numbers_in_the_text_are_the_programs() -> None:
    assert f"{loaders.LARGEST_BYTES:,} bytes or more" in TEXT
    assert f"takes {probe.PATIENCE_SECONDS:.0f} seconds" in TEXT
    assert f"up to {report.MOST_WAITING:,} of them" in TEXT


def test_lines_in_the_text_are_the_programs() -> None:
    http = Event(mac="x", kind=Kind.DISCOVER, detail="", arch=16, firmware="http-efi64")
    assert "gets no loader: UEFI HTTP boot is not answered yet" in remark_on(http)
    assert "gets no loader: UEFI HTTP boot is not answered yet" in TEXT
    assert str(End(code=-9, seconds=1.0)).startswith("was ended by SIGKILL")
