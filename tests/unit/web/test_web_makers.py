"""What machines of families with an installer of their own get: their live system's files, and the image over TLS."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bootstrap.artifacts import Artifact, Manifest
from bootstrap.model import Cluster
from tests.unit.web.conftest import IMAGE, Rack
from tests.unit.web.fakes import W1, cluster
from tests.unit.web.looking import LookingRack

ROOTFS = Artifact("d" * 64, 5)
FAMILIES = ("flatcar", "fedora-coreos")


def of_family(family: str) -> Cluster:
    tree = cluster().model_dump(mode="json", by_alias=True, exclude_none=True)
    for pool in tree["pools"]:
        pool["os"] = {"family": family, "release": "1.2.3"}
    return Cluster.model_validate(tree)


def image_of(family: str) -> Manifest:
    rootfs = ROOTFS if family == "fedora-coreos" else None
    return replace(IMAGE, family=family, release="1.2.3", rootfs=rootfs)


def rack_of(family: str) -> Rack:
    return Rack(cluster=of_family(family), image=image_of(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_script_loads_the_makers_kernel_and_initrd_by_their_sums(family: str) -> None:
    script = rack_of(family).boot()

    assert f"kernel http://10.77.0.1:8080/artifacts/sha256/{'a' * 64} initrd=initrd " in script
    assert f"initrd --name initrd http://10.77.0.1:8080/artifacts/sha256/{'b' * 64} " in script


def test_fedora_coreos_fetches_its_root_filesystem_by_its_sum() -> None:
    url = f"http://10.77.0.1:8080/artifacts/sha256/{'d' * 64}"

    assert f"coreos.live.rootfs_url={url} " in rack_of("fedora-coreos").boot()
    assert "rootfs" not in rack_of("flatcar").boot()


def test_only_the_first_boot_argument_that_works_from_ram_is_given() -> None:
    assert "flatcar.first_boot=1 " in rack_of("flatcar").boot()
    assert "coreos.inst." not in rack_of("fedora-coreos").boot(), "the live system's own service stays off"


def granted(rack: Rack) -> dict[str, Any]:
    rack.boot()
    answer = rack.begin(disk={"path": "/dev/vda"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_makers_image_is_granted_over_tls(family: str) -> None:
    assert granted(rack_of(family))["image"] == {
        "url": f"https://10.77.0.1:8443/artifacts/sha256/{'c' * 64}",
        "sha256": "c" * 64,
        "size": 3,
        "rawSize": 4,
    }


def test_debian_s_image_is_granted_as_before() -> None:
    assert granted(Rack())["image"]["url"] == f"http://10.77.0.1:8080/artifacts/sha256/{'c' * 64}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_machine_that_is_accepted_is_told_how_its_maker_installs(family: str) -> None:
    rack = LookingRack(cluster=of_family(family), image=image_of(family))
    rack.boot()
    task = rack.next(W1)

    assert task["next"] == "install"
    assert task["task"]["maker"]["command"][0] == {"flatcar": "flatcar-install"}.get(
        family, "coreos-installer"
    )


def test_what_looks_at_machines_brings_the_part_for_makers_where_one_is_needed() -> None:
    from bootstrap.render.machines import discovery_document  # noqa: PLC0415  # beside what it is compared with

    paths = [
        {file["path"] for file in json.loads(discovery_document(found, b"ca"))["storage"]["files"]}
        for found in (cluster(), of_family("flatcar"))
    ]

    assert paths[1] - paths[0] == {"/opt/firstlight/maker"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_machine_whose_image_is_not_there_waits_and_says_why(family: str) -> None:
    rack = Rack(cluster=of_family(family), image=None)

    assert "w1 is armed, but the image of pool workers is not built - image build" in rack.boot()
