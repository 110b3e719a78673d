import re
from pathlib import Path

from bootstrap import config
from bootstrap.lab.bmc import bmcs_from
from bootstrap.lab.host import hosts_from
from bootstrap.lab.machine import vms_from

ROOT = Path(__file__).parents[3]
EXAMPLE = re.compile(r"<!-- (lab|hosts|bmcs): layer over (\S+) -->\n```yaml\n(.*?)```", re.DOTALL)
EXAMPLES = {name: (below, text) for name, below, text in EXAMPLE.findall((ROOT / "docs/lab.md").read_text())}


def test_the_example_of_the_lab_page_is_a_lab(tmp_path: Path) -> None:
    below, example = EXAMPLES["lab"]
    layer = tmp_path / "lab.yaml"
    layer.write_text(example)

    machines = vms_from(config.load([ROOT / below, layer]))

    assert [(vm.name, vm.firmware, len(vm.disks)) for vm in machines] == [
        ("w1", "bios", 1),
        ("w2", "uefi", 3),
    ]


def test_the_example_of_a_host_is_one_on_the_rack(tmp_path: Path) -> None:
    below, example = EXAMPLES["hosts"]
    layer = tmp_path / "lab.yaml"
    layer.write_text(example)

    hosts = hosts_from(config.load([ROOT / below, layer]))

    assert [(host.name, str(host.address)) for host in hosts] == [("m1", "10.77.0.10/24")]


def test_the_example_of_a_bmc_is_one_of_a_machine_with_its_disk_first(tmp_path: Path) -> None:
    below, example = EXAMPLES["bmcs"]
    layer = tmp_path / "lab.yaml"
    layer.write_text(example)

    cluster = config.load([ROOT / below, layer])

    assert [str(bmc.address) for bmc in bmcs_from(cluster).values()] == ["10.99.0.1"]
    assert [vm.boot for vm in vms_from(cluster) if vm.name == "w1"] == ["disk"]
