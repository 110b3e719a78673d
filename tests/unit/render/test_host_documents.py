"""What a bare control-plane host reads: who may log in, what it is called, its address if its card is known."""

import json
from typing import Any

import pytest
import yaml

from bootstrap.model import Cluster, Host, Subnet
from bootstrap.render.hosts import host_documents
from tests import samples

MAC = "52:54:00:aa:00:0f"


def cluster(**changes: object) -> Cluster:
    """Return the example with its one host changed."""
    sample = samples.cluster("example")
    host = Host.model_validate({**sample.control_plane.hosts[0].model_dump(exclude_none=True), **changes})
    plane = sample.control_plane.model_copy(update={"hosts": (host,)})
    return sample.model_copy(update={"control_plane": plane})


def documents(**changes: object) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: content for path, content in host_documents(cluster(**changes))}


def test_there_are_these() -> None:
    assert list(documents()) == ["host.ign", "meta-data", "user-data"]
    assert list(documents(mac=MAC)) == ["host.ign", "meta-data", "network-config", "user-data"]
    assert [path for path, _ in host_documents(samples.cluster("ha")) if path.endswith("host.ign")] == [
        f"hosts/{name}/host.ign" for name in ("m1", "m2", "m3")
    ]


def test_a_user_may_log_in_with_the_keys_and_become_root() -> None:
    keys = list(samples.cluster("example").ssh.authorized_keys)
    found = documents()
    ignition: Any = json.loads(found["host.ign"])
    cloud = yaml.safe_load(found["user-data"])

    assert ignition["passwd"]["users"] == [{"name": "core", "sshAuthorizedKeys": keys}]
    sudoers = samples.files_of(found["host.ign"])["/etc/sudoers.d/50-firstlight"]
    assert sudoers == ("core ALL=(ALL) NOPASSWD:ALL\n", 0o440)
    assert cloud["users"][0]["name"] == "core"
    assert cloud["users"][0]["ssh_authorized_keys"] == keys
    assert cloud["users"][0]["sudo"] == "ALL=(ALL) NOPASSWD:ALL"
    assert (cloud["ssh_pwauth"], cloud["disable_root"]) == (False, True)


def test_root_needs_no_sudo() -> None:
    found = documents(user="root")
    cloud = yaml.safe_load(found["user-data"])

    assert "/etc/sudoers.d/50-firstlight" not in samples.files_of(found["host.ign"])
    assert set(cloud["users"][0]) == {"name", "ssh_authorized_keys"}
    assert cloud["disable_root"] is False


def test_it_is_called_by_its_name() -> None:
    found = documents()
    cloud = yaml.safe_load(found["user-data"])

    assert samples.files_of(found["host.ign"])["/etc/hostname"] == ("m1\n", 0o644)
    assert found["user-data"].startswith(b"#cloud-config\n")
    assert (cloud["hostname"], cloud["fqdn"]) == ("m1", "m1.firstlight.internal")
    assert yaml.safe_load(found["meta-data"]) == {"instance-id": "m1", "local-hostname": "m1"}


def test_with_its_card_it_has_its_address_under_every_network_manager() -> None:
    found = documents(mac=MAC)
    files = samples.files_of(found["host.ign"])
    networkd = files["/etc/systemd/network/10-firstlight.network"][0]
    manager, mode = files["/etc/NetworkManager/system-connections/firstlight.nmconnection"]

    assert f"PermanentMACAddress={MAC}\n" in networkd
    assert "\nAddress=192.168.1.10/24\nGateway=192.168.1.1\nDNS=192.168.1.1\n" in networkd
    assert f"\nmac-address={MAC}\n" in manager
    assert "\naddress1=192.168.1.10/24,192.168.1.1\n" in manager
    assert "\ndns=192.168.1.1;\n" in manager
    assert mode == 0o600
    assert yaml.safe_load(found["network-config"]) == {
        "version": 2,
        "ethernets": {
            "firstlight": {
                "match": {"macaddress": MAC},
                "addresses": ["192.168.1.10/24"],
                "dhcp4": False,
                "routes": [{"to": "0.0.0.0/0", "via": "192.168.1.1"}],
                "nameservers": {"addresses": ["192.168.1.1"]},
            }
        },
    }


def test_without_its_card_the_network_is_left_alone() -> None:
    assert not [path for path in samples.files_of(documents()["host.ign"]) if "etwork" in path]


def test_a_host_never_restarts_by_itself() -> None:
    units = samples.units_of(documents()["host.ign"])

    assert {name for name, unit in units.items() if unit.get("mask")} == {
        "locksmithd.service",
        "zincati.service",
    }


@pytest.mark.parametrize("name", samples.NAMES)
def test_nothing_in_them_is_secret(name: str) -> None:
    for _, content in host_documents(samples.cluster(name)):
        assert b"PRIVATE" not in content


def test_a_host_behind_a_relay_has_the_prefix_and_the_router_of_its_network() -> None:
    far = Subnet.model_validate({"subnet": "192.168.8.0/22", "gateway": "192.168.8.1"})
    sample = cluster(mac=MAC, address="192.168.9.10")
    dhcp = sample.appliance.dhcp.model_copy(update={"subnets": (far,)})
    appliance = sample.appliance.model_copy(update={"dhcp": dhcp})
    changed = sample.model_copy(update={"appliance": appliance})
    found = {path.rpartition("/")[2]: content for path, content in host_documents(changed)}
    card = yaml.safe_load(found["network-config"])["ethernets"]["firstlight"]

    assert card["addresses"] == ["192.168.9.10/22"]
    assert card["routes"] == [{"to": "0.0.0.0/0", "via": "192.168.8.1"}]
    networkd, _ = samples.files_of(found["host.ign"])["/etc/systemd/network/10-firstlight.network"]
    assert "Address=192.168.9.10/22\nGateway=192.168.8.1\n" in networkd
