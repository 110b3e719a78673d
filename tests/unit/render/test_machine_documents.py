"""What the live system and the installed system of a machine are told."""

import json
from typing import Any

import pytest

from bootstrap.config import parse_dump
from bootstrap.render.machines import installed_document, live_document
from bootstrap.templates import read
from tests import samples

SLEEP = ("sleep.target", "suspend.target", "hibernate.target", "hybrid-sleep.target")


def live(config: str, name: str) -> bytes:
    return samples.bundle(config)[f"machines/{name}/live.ign"].content


def installed(config: str, name: str) -> bytes:
    return samples.bundle(config)[f"machines/{name}/installed.ign"].content


def task(config: str, name: str) -> dict[str, Any]:
    text, _ = samples.files_of(live(config, name))["/etc/firstlight/install.json"]
    tree: dict[str, Any] = json.loads(text)
    return tree


def test_the_live_system_gets_its_task_the_ca_and_the_installer() -> None:
    files = samples.files_of(live("lab", "w1"))

    assert files["/etc/firstlight/provisioning-ca.crt"] == (samples.CA.decode(), 0o644)
    assert files["/opt/firstlight/install"] == (read("installer/install"), 0o755)
    assert task("lab", "w1") == {
        "cluster": "lab",
        "machine": "w1",
        "pool": "workers",
        "mac": "52:54:00:77:00:01",
        "server": "https://10.77.0.1:8443",
        "disk": {"select": {"serial": "virtio-w1-root"}, "wipe": []},
        "ntp": [],
    }


def test_sizes_are_bytes_and_keys_are_spelled_as_in_the_configuration() -> None:
    assert task("ha", "c1")["disk"]["select"] == {
        "type": "ssd",
        "minSize": 200 * 10**9,
        "maxSize": 2 * 10**12,
    }
    assert task("ha", "s1")["disk"] == {
        "select": {"byPath": "pci-0000:3b:00.0-nvme-1"},
        "wipe": ["S6CKNE0T123456"],
    }


def test_time_servers_are_named_as_text() -> None:
    assert task("ha", "s1")["ntp"] == ["172.16.0.1", "ntp.example.net"]


@pytest.mark.parametrize(("name", "has_unit"), [("s1", False), ("g1", True), ("c1", True)])
def test_a_live_system_that_does_not_start_the_installer_gets_a_unit(name: str, has_unit: bool) -> None:  # noqa: FBT001  # a table
    assert ("firstlight-install.service" in samples.units_of(live("ha", name))) is has_unit


def test_nobody_can_log_in_to_the_live_system_by_what_we_send() -> None:
    assert "passwd" not in json.loads(live("lab", "w1"))


def test_the_installed_system_knows_who_it_is() -> None:
    files = samples.files_of(installed("lab", "w2"))

    assert files["/etc/hostname"] == ("w2\n", 0o644)
    assert "127.0.1.1 w2.firstlight.internal w2\n" in files["/etc/hosts"][0]
    assert json.loads(files["/etc/firstlight/machine.json"][0]) == {
        "cluster": "lab",
        "machine": "w2",
        "pool": "workers",
        "mac": "52:54:00:77:00:02",
        "server": "https://10.77.0.1:8443",
    }
    assert files["/etc/firstlight/provisioning-ca.crt"][0] == samples.CA.decode()
    assert files["/opt/firstlight/report"] == (read("installer/report"), 0o755)


def test_the_card_is_known_by_its_address_and_asks_with_it() -> None:
    text, _ = samples.files_of(installed("lab", "w2"))["/etc/systemd/network/10-firstlight.network"]

    assert "PermanentMACAddress=52:54:00:77:00:02\n" in text
    assert "ClientIdentifier=mac\n" in text


def test_network_manager_reads_its_connection_only_with_mode_0600() -> None:
    files = samples.files_of(installed("ha", "c1"))
    text, mode = files["/etc/NetworkManager/system-connections/firstlight.nmconnection"]

    assert mode == 0o600
    assert "mac-address=b8:ce:f6:00:01:01\n" in text
    assert "/etc/systemd/network/10-firstlight.network" not in files


def test_people_log_in_with_keys_and_nothing_else() -> None:
    document = json.loads(installed("ha", "s1"))
    key = list(samples.cluster("ha").ssh.authorized_keys)
    users = {user["name"]: user for user in document["passwd"]["users"]}

    assert users["core"]["sshAuthorizedKeys"] == key
    assert users["root"]["sshAuthorizedKeys"] == key
    assert "sudo" in users["core"]["groups"]
    assert not [user for user in users.values() if "passwordHash" in user]
    files = samples.files_of(installed("ha", "s1"))
    assert "PasswordAuthentication no\n" in files["/etc/ssh/sshd_config.d/10-firstlight.conf"][0]
    assert files["/etc/sudoers.d/50-firstlight"] == ("core ALL=(ALL) NOPASSWD: ALL\n", 0o440)


@pytest.mark.parametrize("name", ["g1", "c1", "s1"])
def test_an_installed_machine_never_sleeps_and_reports_that_it_is_up(name: str) -> None:
    units = samples.units_of(installed("ha", name))

    assert all(units[target] == {"name": target, "mask": True} for target in SLEEP)
    assert units["firstlight-report.service"]["enabled"] is True


def test_no_family_updates_itself_behind_the_operators_back() -> None:
    flatcar = samples.units_of(installed("ha", "g1"))
    zincati = samples.files_of(installed("ha", "c1"))["/etc/zincati/config.d/90-firstlight-no-updates.toml"]

    assert flatcar["update-engine.service"]["mask"]
    assert flatcar["locksmithd.service"]["mask"]
    assert "enabled = false" in zincati[0]


def test_the_pools_kernel_arguments_reach_the_boot_loader_of_the_installed_debian() -> None:
    text, _ = samples.files_of(installed("example", "w2"))["/boot/grub/arguments.cfg"]

    assert text == 'set arguments="console=ttyS1"\n'
    assert "/boot/grub/arguments.cfg" not in samples.files_of(installed("lab", "w1"))


def test_time_servers_reach_the_clock_of_each_family() -> None:
    debian = samples.files_of(installed("ha", "s1"))
    coreos = samples.files_of(installed("ha", "c1"))

    assert debian["/etc/systemd/timesyncd.conf.d/10-firstlight.conf"][0] == (
        "[Time]\nNTP=172.16.0.1 ntp.example.net\n"
    )
    assert coreos["/etc/chrony.conf"][0].startswith(
        "server 172.16.0.1 iburst\nserver ntp.example.net iburst\n"
    )


def test_without_time_servers_the_clock_is_left_as_the_system_has_it() -> None:
    assert "/etc/systemd/timesyncd.conf.d/10-firstlight.conf" not in samples.files_of(installed("lab", "w1"))


def test_the_documents_are_those_of_the_bundle() -> None:
    cluster = samples.cluster("lab")

    assert live_document(cluster, cluster.machines[0], samples.CA) == live("lab", "w1")
    assert installed_document(cluster, cluster.machines[0], samples.CA) == installed("lab", "w1")


@pytest.mark.parametrize(
    ("release", "path", "text"),
    [
        ("4593.2.5", "/etc/flatcar/enabled-sysext.conf", "nvidia-drivers-570-open\n"),
        ("4081.3.6", "/etc/flatcar/nvidia-metadata", "NVIDIA_DRIVER_VERSION=535.274.02\n"),
    ],
)
def test_flatcar_is_told_which_driver_to_bring(release: str, path: str, text: str) -> None:
    files = gpu_files("flatcar", release)

    assert files[path] == (text, 0o644)
    assert [name for name in files if name.startswith("/etc/flatcar/")] == [path]


@pytest.mark.parametrize(("family", "release"), [("debian", "13"), ("fedora-coreos", "42.20250803.3.0")])
def test_other_families_are_told_nothing_of_drivers(family: str, release: str) -> None:
    assert not [name for name in gpu_files(family, release) if "flatcar" in name or "nvidia" in name]


def gpu_files(family: str, release: str) -> dict[str, tuple[str, int]]:
    tree = samples.cluster("ha").model_dump(mode="json", by_alias=True, exclude_none=True)
    tree["pools"][0] |= {"os": {"family": family, "release": release}, "gpu": {}}
    changed = parse_dump(samples.json_of(tree))
    machine = changed.machine("g1")
    assert machine is not None
    return samples.files_of(installed_document(changed, machine, samples.CA))
