"""Which driver a machine is to have: what an operator may order, and what follows for its image and its node."""

from pathlib import Path

import pytest

from bootstrap import artifacts
from tests.unit.web.fakes import W1
from tests.unit.web.upgrade_rack import NEW_KERNEL, OLD_KERNEL, UpgradeRack, image, t4_cluster

PATH = "/v1/machines/w1/driver"


@pytest.fixture
def rack(tmp_path: Path) -> UpgradeRack:
    """Three nodes with driver 535 in their image, in a pool that wants 550 by now."""
    cache = tmp_path / "cache"
    image(cache, "old", "535.274.02", OLD_KERNEL)
    rack = UpgradeRack(cluster=t4_cluster(driver=535), cache=cache)
    rack.up()
    image(cache, "new", "550.163.01", NEW_KERNEL)
    rack.cluster = t4_cluster(driver=550)
    rack.site.load()
    rack.turn()
    return rack


def node(rack: UpgradeRack, name: str = "w1") -> dict[str, object]:
    found = (rack.operator("GET", "/v1/gpus").json or {})["nodes"]
    return dict(next(one for one in found if one["name"] == name))


def test_the_operator_sees_what_a_node_runs_and_what_it_is_to_run(rack: UpgradeRack) -> None:
    found = node(rack)

    assert (found["verified"], found["pin"]) == ("535.274.02 (closed)", None)
    assert found["target"] == {
        "route": "packages",
        "planned": "550 (closed)",
        "driver": "550 (closed)",
        "names": ["nvidia-kernel-dkms", "nvidia-smi", "libcuda1"],
        "version": "550.163.01",
        "kernel": NEW_KERNEL,
        "image": "new",
        "checkInterval": 300,
    }


def test_a_node_is_told_the_driver_that_it_keeps_until_another_is_ordered(rack: UpgradeRack) -> None:
    assert rack.reports("w1")["driver"]["branch"] == 535
    assert rack.operator("POST", PATH, json={}).status_code == 200
    assert rack.reports("w1")["driver"]["branch"] == 550
    rack.gate.look()
    assert rack.machine()["gpu"]["verified"] == ""
    assert "behind plan, its pool wants 550 (closed)" in rack.machine()["gpu"]["verdict"]
    assert ("gpu-driver", "of its pool") in [
        (one.what, one.decision) for one in rack.site.ledger.events_of(W1)
    ]

    assert rack.operator("POST", PATH, json={"driver": "535 (closed)", "image": "old"}).status_code == 200
    assert rack.reports("w1")["driver"]["branch"] == 535
    rack.gate.look()
    assert rack.of("w1").state == "gpu-ready"


def test_a_machine_that_is_set_back_boots_and_installs_the_image_of_then(rack: UpgradeRack) -> None:
    rack.operator("POST", PATH, json={"driver": "535 (closed)", "image": "old"})
    initrds = {one.key: one.initrd.sha256 for one in artifacts.manifests(rack.cache)}
    for name, key in (("w1", "old"), ("w2", "new")):
        rack.operator("POST", f"/v1/machines/{name}/arm")
        assert initrds[key] in rack.boot(rack.mac(name))
        rack.boots(name)

    assert {name: found.key for name, found in rack.runs.items()} == {"w1": "old", "w2": "new", "w3": "old"}
    rack.turn()
    assert rack.of("w1").state == rack.of("w2").state == "gpu-ready"

    rack.operator("POST", PATH, json={})
    rack.operator("POST", "/v1/machines/w1/arm")
    rack.boots("w1")
    assert rack.runs["w1"].key == "new"


@pytest.mark.parametrize(
    ("order", "status", "reason"),
    [
        ({"driver": "470 (closed)"}, 409, "debian 13 does not offer driver 470 (closed)"),
        (
            {"driver": "535 (closed)", "image": "new"},
            409,
            "image new is not in the cache, or does not hold driver 535 (closed)",
        ),
        ({"driver": "535 (closed)", "image": "gone"}, 409, "image gone is not in the cache"),
        ({"driver": "535"}, 400, "driver"),
        ({"driver": "535 (closed)", "image": "../../etc/passwd"}, 400, "image"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    rack: UpgradeRack, order: dict[str, str], status: int, reason: str
) -> None:
    refused = rack.operator("POST", PATH, json=order)

    assert refused.status_code == status
    assert reason in (refused.json or {})["reason"]
    assert rack.of("w1").pin is None
    assert rack.of("w1").gpu is not None
    assert rack.machine()["gpu"]["verified"] == "535.274.02 (closed)"


def test_only_the_operator_may_order(rack: UpgradeRack) -> None:
    for listener in ("public", "machine", "metrics"):
        assert rack.ask(listener, "POST", PATH, json={}).status_code in (403, 404)
    assert rack.operator("POST", "/v1/machines/w9/driver", json={}).status_code == 404


def test_where_the_image_of_then_is_gone_nothing_else_is_written(rack: UpgradeRack) -> None:
    rack.operator("POST", PATH, json={"driver": "535 (closed)", "image": "old"})
    rack.operator("POST", "/v1/machines/w1/arm")
    (rack.cache / "images" / "old.json").unlink()

    assert "initrd" in rack.boot(W1)  # its installer looks, and is told to wait
    refused = rack.begin(W1)
    assert refused.status_code == 503


def test_until_an_image_with_the_pools_driver_is_built_its_nodes_are_not_behind(rack: UpgradeRack) -> None:
    """`gpu upgrade` would install them anew from the very image that they run."""
    rack.cluster = t4_cluster()
    (rack.cache / "images" / "new.json").unlink()
    rack.site.load()

    target = node(rack)["target"]

    assert isinstance(target, dict)
    assert (target["planned"], target["driver"], target["image"]) == ("550 (closed)", "535 (closed)", "old")
