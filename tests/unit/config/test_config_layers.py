"""Files over files, and where each value came from."""

import copy
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bootstrap import config
from bootstrap.errors import ConfigError, UsageError
from bootstrap.model.paths import WrittenIn

CONFIGS = Path(__file__).parents[3] / "configs"
LAB = CONFIGS / "lab.yaml"
EXAMPLE = CONFIGS / "example.yaml"


def _site(folder: Path, text: str) -> Path:
    file = folder / "site.yaml"
    file.write_text(text)
    return file


def test_mappings_merge_by_key_and_lists_are_replaced(tmp_path: Path) -> None:
    site = _site(tmp_path, "appliance: {dhcp: {range: [10.77.0.160, 10.77.0.170]}, dns: [10.77.0.1]}\n")

    cluster = config.load([LAB, site])

    assert cluster.appliance.dhcp.range is not None
    assert [str(end) for end in cluster.appliance.dhcp.range] == ["10.77.0.160", "10.77.0.170"]
    assert cluster.appliance.interface == "fl0"
    assert cluster.appliance.dhcp.mode == "server"


def test_named_items_merge_by_name(tmp_path: Path) -> None:
    site = _site(
        tmp_path,
        "machines:\n  - {name: w2, address: 10.77.0.112}\n  - {name: w3, mac: 52:54:00:77:00:03, pool: workers}\n"
        "kubernetes: {cni: {plugin: none}}\n"
        "lab: {machines: [{name: w1, cpus: 4}]}\npools: [{name: workers, arm: manual}]\n"
        "controlPlane: {hosts: [{name: m1, user: core}]}\n",
    )

    cluster = config.load([LAB, site])

    assert [(machine.name, str(machine.address)) for machine in cluster.machines] == [
        ("w1", "10.77.0.101"),
        ("w2", "10.77.0.112"),
        ("w3", "None"),
    ]
    assert cluster.lab is not None
    assert [machine.cpus for machine in cluster.lab.machines] == [4, None]
    assert cluster.pool("workers").arm == "manual"
    assert cluster.control_plane.hosts[0].user == "core"


def test_other_lists_of_mappings_are_replaced(tmp_path: Path) -> None:
    first = _site(tmp_path, "addons: [coredns, metrics-server]\n")
    second = tmp_path / "second.yaml"
    second.write_text("addons: [coredns]\n")

    assert [addon.name for addon in config.load([LAB, first, second]).addons] == ["coredns"]


def test_null_takes_a_value_away(tmp_path: Path) -> None:
    site = _site(tmp_path, "lab: null\nmachines: [{name: w1, power: ~}, {name: w2, power: ~}]\n")

    cluster = config.load([LAB, site])

    assert cluster.lab is None
    assert cluster.machines[0].power is None


def test_a_path_begins_in_the_folder_of_the_file_that_it_is_written_in(tmp_path: Path) -> None:
    (tmp_path / "rack").mkdir()
    shutil.copy(LAB, tmp_path / "rack" / "lab.yaml")
    base = tmp_path / "rack" / "base.yaml"
    base.write_text(
        "kubernetes: {binaries: {build: null, directory: programs}}\nmirror: {caFile: /etc/ca.pem}\n"
    )
    site = _site(tmp_path, "mirror: {directory: mirrored}\n")

    cluster = config.load([tmp_path / "rack" / "lab.yaml", base, site])

    folder = config.base_of([base, site])
    assert folder == tmp_path
    assert folder / str(cluster.kubernetes.binaries.directory) == tmp_path / "rack" / "programs"
    assert (cluster.mirror.ca_file, cluster.mirror.directory) == ("/etc/ca.pem", "mirrored")


def test_what_knows_its_file_is_not_in_the_cluster(tmp_path: Path) -> None:
    """It cannot be copied: `up` with an overlay in another folder ended with a traceback."""
    for file in (EXAMPLE, LAB):
        cluster = config.load([file, _site(tmp_path, "metadata: {name: other}\n")])
        kinds = {type(value) for value in _values(cluster.model_dump())}
        assert WrittenIn not in kinds
        assert str in kinds
        assert copy.deepcopy(cluster) == cluster


def _values(tree: object) -> Iterator[object]:
    """Yield every value and key that is in `tree`."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from (key, *_values(value))
    elif isinstance(tree, list | tuple | set | frozenset):
        for value in tree:
            yield from _values(value)
    else:
        yield tree


def test_a_path_of_an_earlier_file_must_still_be_one(tmp_path: Path) -> None:
    (tmp_path / "rack").mkdir()
    base = tmp_path / "rack" / "base.yaml"
    base.write_text(LAB.read_text() + 'mirror: {caFile: "a\\u0007b"}\n')
    site = _site(tmp_path, "metadata: {name: other}\n")

    with pytest.raises(ConfigError, match=r"base.yaml:\d+:18: mirror.caFile: "):
        config.load([base, site])


def test_a_problem_points_to_the_file_the_value_came_from(tmp_path: Path) -> None:
    site = _site(
        tmp_path, "machines:\n  - name: w2\n    address: 10.77.0.101\nkubernetes: {versoin: v1.36.5}\n"
    )

    with pytest.raises(ConfigError) as caught:
        config.load([LAB, site])

    taken = "10.77.0.101 is taken (machines.0.address, line 45); write such as 10.77.0.200"
    assert str(caught.value).splitlines() == [
        f"{site}:3:14: machines.1.address: {taken}",
        f"{site}:4:14: kubernetes.versoin: is not a known key; did you mean version?",
    ]


def test_yaml_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("a: [\n")
    second.write_text("\tb: 1\n")

    with pytest.raises(ConfigError) as caught:
        config.load([first, second])

    assert [(Path(p.file).name, p.line) for p in caught.value.problems] == [("a.yaml", 2), ("b.yaml", 1)]


def test_explain_names_the_place_of_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)

    assert config.explain([Path("configs/lab.yaml")], "appliance.address") == (
        "appliance.address = 10.77.0.1/24  (configs/lab.yaml:29:12)"
    )


def test_explain_names_the_later_file_and_defaults(tmp_path: Path) -> None:
    site = _site(tmp_path, "appliance:\n  dhcp: {leaseTime: 90s}\n")

    lines = config.explain([LAB, site], "appliance.dhcp").splitlines()

    assert f"appliance.dhcp.leaseTime = 90s  ({site}:2:21)" in lines
    assert config.explain([LAB, site], "appliance.httpPort") == "appliance.httpPort = 8080  (default)"
    assert config.explain([LAB, site], "appliance.gateway") == "appliance.gateway = not set  (default)"


def test_explain_finds_things_by_name_and_by_number() -> None:
    assert config.explain([LAB], "machines.w2.mac") == config.explain([LAB], "machines.1.mac")
    assert config.explain([LAB], "lab.machines.w2.firmware").startswith("lab.machines.1.firmware = uefi  (")


def test_explain_with_no_key_tells_everything() -> None:
    lines = config.explain([LAB], "").splitlines()

    assert any(line.startswith("metadata.name = lab  (") for line in lines)
    assert len(lines) > 50


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("aplliance", "did you mean appliance?"),
        ("machines.w3", "write one of 0, 1, w1, w2"),
        ("kind.x", "remove it"),
    ],
)
def test_explain_of_an_unknown_key_suggests_one(key: str, advice: str) -> None:
    with pytest.raises(UsageError, match="is no key") as caught:
        config.explain([LAB], key)

    assert advice in str(caught.value)
