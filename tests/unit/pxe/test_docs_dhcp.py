"""docs/dhcp.md says what the program does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bootstrap import config, loaders
from bootstrap.cli.main import Call
from bootstrap.cli.site_dhcp import dhcp_options
from bootstrap.errors import UsageError
from bootstrap.render import site_dhcp
from bootstrap.render.firmware import TABLE
from pxe import probe, report, sentinel
from pxe.events import Event, Kind
from pxe.observe import remark_on
from pxe.supervise import End

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "dhcp.md").read_text()
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
        (row.archs, row.name, row.boot_file("") or "none") for row in TABLE
    ]


@pytest.mark.parametrize(
    "block", BLOCKS, ids=["modes", "proxy", "subnets", "loader", "arm64", "tftp-ways", "tftp"]
)
def test_configuration_in_the_text_is_one(block: str, tmp_path: Path) -> None:
    is_proxy = "mode: proxy" in block
    (tmp_path / "base.yaml").write_text(re.sub(r", dhcp: \{.*?\}", "", BASE) if is_proxy else BASE)
    (tmp_path / "block.yaml").write_text(block)
    assert config.load([tmp_path / "base.yaml", tmp_path / "block.yaml"]).metadata.name == "docs"


COMMANDS = re.findall(r"^python3 (deploy\.py --config config\.yaml dhcp-options.*)$", TEXT, re.MULTILINE)


def test_every_server_that_we_know_has_its_command() -> None:
    assert [command.split()[4:] for command in COMMANDS] == [[], *([server] for server in site_dhcp.SERVERS)]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_print_what_to_set(command: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(re.sub(r"dhcp: \{.*?\}", "dhcp: {mode: off}", BASE))
    done = subprocess.run(
        [sys.executable, ROOT / "deploy.py", *command.split()[1:]],
        cwd=tmp_path,
        env={**os.environ, "FIRSTLIGHT_NO_VENV": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "http://192.168.1.20:8080/boot.ipxe" in done.stdout
    assert all((row.boot_file("http://192.168.1.20:8080") or "") in done.stdout for row in TABLE)
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


def test_where_we_answer_ourselves_there_is_nothing_to_set_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(BASE)
    call = Call((tmp_path / "config.yaml",), tmp_path, "table")

    with pytest.raises(UsageError, match=r"appliance\.dhcp\.mode is server: we tell the machines ourselves"):
        dhcp_options.main(["kea"], obj=call, standalone_mode=False)


def test_numbers_in_the_text_are_the_programs() -> None:
    assert f"{loaders.LARGEST_BYTES:,} bytes or more" in TEXT
    assert f"takes {probe.PATIENCE_SECONDS:.0f} seconds" in TEXT
    assert sentinel.PERIOD_SECONDS == 60
    assert sentinel.PERIOD_SECONDS + probe.PATIENCE_SECONDS <= 70
    assert "within 70 seconds" in TEXT
    assert sentinel.MISSES == 2
    assert f"up to {report.MOST_WAITING:,} of them" in TEXT


def test_lines_in_the_text_are_the_programs() -> None:
    old = Event(mac="x", kind=Kind.DISCOVER, detail="", arch=15, firmware="http-efi32")
    assert "gets no loader: no distribution carries a 32-bit EFI loader" in remark_on(old)
    assert "gets no loader: no distribution carries a 32-bit EFI loader" in TEXT
    assert str(End(code=-9, seconds=1.0)).startswith("was ended by SIGKILL")
