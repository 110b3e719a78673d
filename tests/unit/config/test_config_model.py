"""Kinds of values, and what a cluster answers."""

import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bootstrap import config
from bootstrap.config import compose
from bootstrap.config.tree import plain
from bootstrap.model import Cluster, Disk, DiskSelect, LabDisk, Machine, mac_from
from bootstrap.model.addresses import (
    address_or_name_from,
    endpoint_from,
    interface_from,
    network_from,
    range_from,
)
from bootstrap.model.amounts import (
    Comparison,
    count_comparison_from,
    duration_from,
    duration_text,
    size_comparison_from,
    size_from,
    size_text,
)
from bootstrap.model.types import name_from, ssh_key_from

ROOT = Path(__file__).parents[3]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINm0YdFgnNwDvXUBXI1l0ZcJYPbc8yZptgWSoSgiNedN"


@pytest.fixture(scope="module")
def ha() -> Cluster:
    """The largest sample."""
    return config.load([ROOT / "configs/ha.yaml"])


@pytest.mark.parametrize("text", ["52:54:00:AA:00:01", "52-54-00-aa-00-01", "52:54:00:aa:00:01"])
def test_mac_is_normalised(text: str) -> None:
    assert mac_from(text) == "52:54:00:aa:00:01"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "52:54:00:aa:00",
        "52:54:00:aa:00:01:02",
        "52:54-00:aa:00:01",
        "525400aa0001",
        "52:54:00:aa:00:0g",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        " 52:54:00:aa:00:01",
        "52:54:00:aa:00:01\n",
        "٥٢:54:00:aa:00:01",
    ],
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="MAC address"):
        mac_from(text)


@given(st.binary(min_size=6, max_size=6), st.sampled_from(":-"), st.booleans())
def test_every_unicast_mac_survives(raw: bytes, separator: str, upper: bool) -> None:  # noqa: FBT001  # drawn by hypothesis
    raw = bytes([raw[0] & 0xFE]) + raw[1:]
    text = raw.hex(separator)
    if raw != bytes(6):
        assert mac_from(text.upper() if upper else text) == raw.hex(":")


@given(st.text(max_size=30))
def test_mac_of_any_text_is_normal_or_a_value_error(text: str) -> None:
    try:
        assert mac_from(mac_from(text)) == mac_from(text)
    except ValueError as error:
        refusal = str(error)
        assert "write" in refusal


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 << 30), ("400Gi", 400 << 30), ("500GB", 500 * 10**9), ("2 TiB", 2 << 40), (1 << 30, 1 << 30)],
)
def test_sizes(text: object, size: int) -> None:
    assert size_from(text) == size
    assert size_from(size_text(size)) == size


@pytest.mark.parametrize(
    "text", ["8", "8gib", "GiB", "-8GiB", "1.5TiB", 8, True, None, "99999999TiB", "8 GiB GiB"]
)
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="400GiB"):
        size_from(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172800), (30, 30)]
)
def test_durations(text: object, seconds: int) -> None:
    assert duration_from(text) == seconds
    assert duration_from(duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["soon", "0s", -1, "5 minutes", "400d", False, "5"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="5m"):
        duration_from(text)


@pytest.mark.parametrize(
    ("text", "passes", "fails"),
    [(">=8", 8, 7), ("> 8", 9, 8), ("<8", 7, 8), ("<=8", 8, 9), ("=8", 8, 9), ("==8", 8, 7), (8, 8, 9)],
)
def test_comparisons(text: object, passes: int, fails: int) -> None:
    assert count_comparison_from(text).holds(passes)
    assert not count_comparison_from(text).holds(fails)


def test_comparison_of_sizes() -> None:
    assert size_comparison_from(">=512GiB") == Comparison(">=", 512 << 30)


@pytest.mark.parametrize("text", ["10.0.0.1:6443", "k8s.example.net:443", "m1:1"])
def test_endpoints(text: str) -> None:
    assert endpoint_from(text) == text


@pytest.mark.parametrize(
    "text", ["10.0.0.1", ":6443", "[::1]:6443", "a b:1", "x:0", "x:65536", "x:06443", "*.x:1", "256.1.1.1:1"]
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="6443"):
        endpoint_from(text)


def test_addresses() -> None:
    assert interface_from("10.77.0.1/24").network == IPv4Network("10.77.0.0/24")
    assert network_from("10.2.0.0/16") == IPv4Network("10.2.0.0/16")
    assert address_or_name_from("10.0.0.1") == IPv4Address("10.0.0.1")
    assert address_or_name_from("ntp.example.net") == "ntp.example.net"
    assert range_from("10.0.0.1-10.0.0.9") == (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9"))
    assert range_from("10.0.0.0/30") == (IPv4Address("10.0.0.0"), IPv4Address("10.0.0.3"))


@pytest.mark.parametrize("name", ["a", "w1", "rack-1", "a" * 63])
def test_names(name: str) -> None:
    assert name_from(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "ä", "../x", "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="RFC 1123"):
        name_from(name)


def test_ssh_keys_lose_their_double_blanks_and_keep_their_comment() -> None:
    assert ssh_key_from(f"  {KEY.replace(' ', '   ')}  me  ") == f"{KEY} me"


@pytest.mark.parametrize(
    "text",
    ["", KEY.replace("ed25519", "rsa"), KEY[:40], "ssh-dss AAAA", f'command="x" {KEY}', "ssh-ed25519 !!!!"],
)
def test_what_is_no_ssh_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="public SSH key"):
        ssh_key_from(text)


def test_a_cluster_finds_its_parts(ha: Cluster) -> None:
    machine = ha.machine_by_mac("b8:ce:f6:00:00:01")

    assert machine is ha.machine("g1")
    assert machine is not None
    assert ha.disk_of(machine) == ha.pool("gpu").disk
    assert ha.machine_by_mac("b8:ce:f6:00:00:ff") is None
    assert ha.machine("none") is None
    assert (ha.base_url, ha.secure_url) == ("http://172.16.0.5:8080", "https://172.16.0.5:8443")
    assert (ha.kubernetes.endpoint_host, ha.kubernetes.endpoint_port) == ("k8s.example.net", 6443)
    assert [addon.name for addon in ha.addons][-1] == "metallb"
    with pytest.raises(KeyError):
        ha.pool("none")


def test_a_machines_own_disk_goes_before_its_pools() -> None:
    lab = config.load([ROOT / "configs/lab.yaml"])

    assert lab.disk_of(lab.machines[0]).select.serial == "virtio-w1-root"


def test_the_model_is_frozen_and_can_be_built_in_python() -> None:
    machine = Machine(
        name="w1", mac="52-54-00-AA-00-01", pool="p", disk=Disk(select=DiskSelect(min_size=1 << 30))
    )

    assert machine.mac == "52:54:00:aa:00:01"
    assert LabDisk(serial="d", size=1 << 30).size == 1 << 30
    with pytest.raises(ValidationError):
        machine.name = "w2"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["example", "ha", "lab"])
def test_a_dump_is_canonical_and_comes_back(name: str) -> None:
    cluster = config.load([ROOT / f"configs/{name}.yaml"])
    dumped = config.dump(cluster)

    assert config.parse_dump(dumped) == cluster
    assert config.dump(config.parse_dump(dumped)) == dumped
    assert str(ROOT).encode() not in dumped


def test_a_damaged_dump_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="apiVersion"):
        config.parse_dump(b"{}")


def test_a_thousand_machines_are_checked_quickly(tmp_path: Path) -> None:
    """Measured at 0.3 s on one busy core; the bound leaves room for a slow one, not for a square in it."""
    text = (
        (ROOT / "configs/lab.yaml")
        .read_text()
        .replace("10.77.0.", "10.77.")
        .replace("10.77.1/24", "10.77.0.1/16")
    )
    head = (
        text.partition("machines:")[0]
        .replace("10.77.10:6443", "10.77.0.10:6443")
        .replace("10.77.10}", "10.77.0.10}")
    )
    head = head.replace("[10.77.150, 10.77.199]", "[10.77.0.150, 10.77.0.199]")
    rows = [
        f"  - {{name: n{i}, mac: 52:54:00:77:{i >> 8:02x}:{i & 255:02x}, pool: workers, "
        f"address: 10.77.{1 + (i >> 8)}.{i & 255}, disk: {{select: {{serial: d{i}}}}}}}"
        for i in range(1, 1001)
        if 0 < i & 255 < 255
    ]
    file = tmp_path / "large.yaml"
    file.write_text(head + "machines:\n" + "\n".join(rows) + "\n")

    started = time.perf_counter()
    cluster = config.load([file])

    assert len(cluster.machines) == len(rows)
    assert time.perf_counter() - started < 3


def test_plain_values_become_yaml_that_reads_the_same() -> None:
    values = {"b": [{"mac": "52:54:00:12:34:56", "no": "no", "at": IPv4Address("10.0.0.1")}], "a": None}

    tree, problems = compose.compose(config.to_yaml(values).encode(), "x.yaml")

    assert problems == ()
    assert tree is not None
    assert plain(tree) == {"b": [{"mac": "52:54:00:12:34:56", "no": "no", "at": "10.0.0.1"}], "a": None}
    assert config.to_yaml(values).startswith("b:")
