"""The same questions to every operating system family: a new file is asked before its author writes a test."""

import json
import re

import pytest

from bootstrap import families, rooms
from bootstrap.config import dump, parse_dump
from bootstrap.families import LiveBoot, OSFamily
from bootstrap.model import Cluster
from bootstrap.render import ipxe
from bootstrap.render.machines import family_of, installed_document, live_document
from tests import samples

FAMILIES = rooms.names(families)
BASE = "http://10.77.0.1:8080"
KERNEL = f"{BASE}/artifacts/sha256/{'a' * 64}"
ARM = "0d5d4a0c-7d7c-4f0a-9d53-0a1f2b3c4d5e"
LIVE = LiveBoot(
    mac="52:54:00:77:00:01", base_url=BASE, arm=ARM, rootfs_url=f"{KERNEL[:-1]}b", extra=("nomodeset",)
)


def family(name: str) -> OSFamily:
    return rooms.load(families, name, OSFamily, where="pools.workers.os.family")


def cluster_of(name: str) -> Cluster:
    tree = json.loads(dump(samples.cluster("lab")))
    tree["pools"][0]["os"] = {"family": name, "release": "1"}
    return parse_dump(json.dumps(tree).encode())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_boots(name: str) -> None:
    script = ipxe.install_script(
        kernel_url=KERNEL, initrd_url=KERNEL, kernel_args=family(name).live_args(LIVE), base=BASE, reason="x"
    )

    assert f"kernel {KERNEL} initrd=initrd " in script


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_told_its_config_its_arm_and_its_consoles(name: str) -> None:
    args = family(name).live_args(LIVE)

    assert f"ignition.config.url={BASE}/v1/ignition/52-54-00-77-00-01" in args
    assert f"firstlight.arm={ARM}" in args
    assert [arg for arg in args if arg.startswith("console=")] == ["console=tty0", "console=ttyS0,115200"]
    assert args[-1] == "nomodeset", "the pool's own arguments win by coming last"
    assert len(set(args)) == len(args)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_arguments_that_ipxe_can_carry(name: str) -> None:
    for argument in family(name).live_args(LIVE):
        assert ipxe.argument(argument) == argument


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_restarts_a_machine_whose_live_system_dies(name: str) -> None:
    assert "panic=30" in family(name).live_args(LIVE)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_ignition_of_the_version_that_all_understand(name: str) -> None:
    cluster = cluster_of(name)
    for document in (live_document, installed_document):
        assert json.loads(document(cluster, cluster.machines[0], samples.CA))["ignition"] == {
            "version": "3.3.0"
        }


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_the_installer_one_way_or_the_other(name: str) -> None:
    cluster = cluster_of(name)
    units = samples.units_of(live_document(cluster, cluster.machines[0], samples.CA))

    assert family(name).starts_installer or units["firstlight-install.service"]["enabled"]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_brings_up_the_card_by_its_mac_address(name: str) -> None:
    machine = samples.cluster("lab").machines[0]
    texts = [samples.data_of(node) for node in family(name).network(machine)]

    assert any(machine.mac in text for text in texts)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_takes_time_servers(name: str) -> None:
    texts = [samples.data_of(node) for node in family(name).time(("192.0.2.1", "ntp.example.net"))]

    assert any("192.0.2.1" in text and "ntp.example.net" in text for text in texts)
    assert family(name).time(()) == ()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_title_and_a_kernel(name: str) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z ]+", family(name).title)
    assert "server" in family(name).kernels


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_found_from_its_pool(name: str) -> None:
    assert family_of(cluster_of(name).pools[0]) is family(name)
