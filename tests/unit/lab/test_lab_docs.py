import re
from pathlib import Path

from bootstrap import config
from bootstrap.lab.machine import vms_from

ROOT = Path(__file__).parents[3]
EXAMPLE = re.compile(r"<!-- lab: layer over (\S+) -->\n```yaml\n(.*?)```", re.DOTALL)


def test_the_example_of_the_lab_page_is_a_lab(tmp_path: Path) -> None:
    below, example = EXAMPLE.findall((ROOT / "docs" / "lab.md").read_text())[0]
    layer = tmp_path / "lab.yaml"
    layer.write_text(example)

    machines = vms_from(config.load([ROOT / below, layer]))

    assert [(vm.name, vm.firmware, len(vm.disks)) for vm in machines] == [
        ("w1", "bios", 1),
        ("w2", "uefi", 3),
    ]
