"""What the live and the installed system of families with an installer of their own are told."""

import json
from typing import Any

import pytest

from bootstrap.config import parse_dump
from bootstrap.kubernetes.nodes import pools_without_plugins
from bootstrap.kubernetes.pod_network import PodNetwork
from bootstrap.model import Cluster
from bootstrap.render import ignition
from bootstrap.render.machines import installed_document, live_document
from bootstrap.render.node import Joining
from bootstrap.templates import read
from tests import samples

MAKERS = ("fedora-coreos", "flatcar")
PLUGINS = {
    name: f"{number}" * 64 for number, name in enumerate(("bridge", "host-local", "loopback", "portmap"))
}
BINARIES = {"kubelet": "a" * 64, "kube-proxy": "b" * 64}


def cluster_of(family: str, *arguments: str) -> Cluster:
    tree = samples.cluster("lab").model_dump(mode="json", by_alias=True, exclude_none=True)
    tree["pools"][0] |= {"os": {"family": family, "release": "1"}, "kernelArgs": list(arguments)}
    return parse_dump(samples.json_of(tree))


def live(family: str) -> dict[str, tuple[str, int]]:
    cluster = cluster_of(family)
    return samples.files_of(live_document(cluster, cluster.machines[0], samples.CA))


def installed(family: str, *arguments: str, plugins: dict[str, str] | None = None) -> dict[str, Any]:
    cluster = cluster_of(family, *arguments)
    joining = Joining(
        authority=b"ca",
        binaries=BINARIES,
        network=PodNetwork({"w1": 0, "w2": 1}, b""),
        plugins=PLUGINS if plugins is None else plugins,
    )
    tree: dict[str, Any] = json.loads(installed_document(cluster, cluster.machines[0], samples.CA, joining))
    return tree


def sources(document: dict[str, Any], begin: str) -> dict[str, Any]:
    files = document["storage"]["files"]
    return {f["path"].removeprefix(begin): f["contents"] for f in files if f["path"].startswith(begin)}


@pytest.mark.parametrize("family", MAKERS)
def test_the_live_system_shares_debian_s_installer_and_gets_the_makers_part(family: str) -> None:
    files, debian = live(family), live("debian")

    assert files["/opt/firstlight/install"] == debian["/opt/firstlight/install"]
    assert files["/opt/firstlight/maker"] == (read("installer/maker"), 0o644)
    assert set(files) - set(debian) == {"/opt/firstlight/maker"}


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("flatcar", "flatcar-install -d @disk -f @image -i @config"),
        (
            "fedora-coreos",
            "coreos-installer install --insecure --image-file @image --ignition-file @config @disk",
        ),
    ],
)
def test_the_task_names_the_makers_command_with_its_places(family: str, words: str) -> None:
    task = json.loads(live(family)["/etc/firstlight/install.json"][0])

    assert task["maker"]["command"] == words.split()
    assert task["maker"]["image"].endswith((".bin.bz2", ".raw.xz")), (
        "by its end the installer knows how to unpack"
    )


def test_debian_s_task_names_no_maker() -> None:
    assert "maker" not in json.loads(live("debian")["/etc/firstlight/install.json"][0])


@pytest.mark.parametrize("family", MAKERS)
def test_a_pools_kernel_arguments_reach_the_installed_system_by_its_ignition(family: str) -> None:
    assert installed(family, "console=ttyS1", "nomodeset")["kernelArguments"] == {
        "shouldExist": ["console=ttyS1", "nomodeset"]
    }
    assert "kernelArguments" not in installed(family)


def test_debian_s_grub_reads_them_from_a_file() -> None:
    assert "kernelArguments" not in installed("debian", "nomodeset")


def test_the_text_of_kernel_arguments_is_what_json_would_write() -> None:
    text = ignition.document(files=(), kernel_arguments=("a=b", 'quo"ted'))

    assert text == ignition.json_bytes(json.loads(text))


@pytest.mark.parametrize("family", MAKERS)
def test_a_node_fetches_its_programs_and_the_cni_plugins_with_their_sums(family: str) -> None:
    document = installed(family)
    url = "http://10.77.0.1:8080/artifacts/sha256/"

    for begin, sums in (("/opt/firstlight/bin/", BINARIES), ("/opt/cni/bin/", PLUGINS)):
        found = sources(document, begin)
        for name, sum_ in sums.items():
            assert found[name] == {"source": url + sum_, "verification": {"hash": f"sha256-{sum_}"}}


def test_debian_has_plugins_of_its_own() -> None:
    assert sources(installed("debian"), "/opt/cni/bin/") == {}


@pytest.mark.parametrize("family", MAKERS)
def test_a_node_runs_containerd_and_no_update_by_itself(family: str) -> None:
    document = installed(family)
    units = {unit["name"]: unit for unit in document["systemd"]["units"]}

    assert units["containerd.service"] == {"name": "containerd.service", "enabled": True}
    paths = [file["path"] for file in document["storage"]["files"]]
    assert units.get("update-engine.service", {}).get("mask") or any("zincati" in path for path in paths)


@pytest.mark.parametrize(("family", "pools"), [("debian", ()), ("flatcar", ("workers",))])
def test_pools_whose_system_has_no_plugins_are_known(family: str, pools: tuple[str, ...]) -> None:
    assert pools_without_plugins(cluster_of(family)) == pools


def test_plugins_are_part_of_what_nodes_depend_on() -> None:
    with_, without = (
        Joining(
            authority=b"ca", binaries=BINARIES, network=PodNetwork({"w1": 0, "w2": 1}, b""), plugins=plugins
        )
        for plugins in (PLUGINS, {})
    )

    assert with_.common != without.common
