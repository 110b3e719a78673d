"""Machines that nobody listed: looked at, shown, accepted, sent on to the installer, and bounded."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootstrap.errors import RenderError
from bootstrap.kubernetes.pod_network import laid_out
from bootstrap.model import Cluster
from bootstrap.records import strangers as strangers_module
from bootstrap.records.documents import INSTALLED
from bootstrap.render.node import Joining
from bootstrap.states import State
from tests.unit.web.conftest import IMAGE
from tests.unit.web.fakes import W1, W2, W3, cluster
from tests.unit.web.looking import BMC_SCREEN, GPU, LookingRack, matching
from web.accepting import default_name

ONE = "4c4c4544-0051-3310-8051-b4c04f4a4d32"
OTHER_CARD = "52:54:00:aa:00:f3"


@pytest.fixture(name="looking")
def fixture_looking() -> LookingRack:
    return LookingRack()


def test_an_unknown_machine_gets_the_installers_system_that_only_looks(looking: LookingRack) -> None:
    script = looking.boot(W3)
    document = json.loads(looking.public(f"/v1/ignition/{W3}").text)

    assert f"kernel http://10.77.0.1:8080/artifacts/sha256/{IMAGE.kernel.sha256}" in script
    assert "firstlight.arm=discover" in script
    assert f"firstlight.image={IMAGE.initrd.sha256}" in script
    assert {"/opt/firstlight/discover", "/opt/firstlight/install"} < {
        file["path"] for file in document["storage"]["files"]
    }
    assert looking.site.ledger.machine(W3) is None


@pytest.mark.parametrize("why", ["discovery is off", "no image"])
def test_without_discovery_or_an_image_it_is_left_alone(why: str) -> None:
    plain = cluster().model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["appliance"]["discovery"] = why != "discovery is off"
    rack = LookingRack(cluster=Cluster.model_validate(plain), image=None if why == "no image" else IMAGE)

    assert f"{W3} is not in config.yaml" in rack.boot(W3)
    if why == "discovery is off":
        assert rack.public(f"/v1/ignition/{W3}").status_code == 404
        assert (rack.found().json or {})["next"] == "restart"
        assert rack.site.strangers.inventory(W3) is None


def test_it_tells_waits_is_accepted_and_installs_without_another_boot(looking: LookingRack) -> None:
    looking.boot(W3, serial="S3")
    assert looking.next()["next"] == "report"
    assert (looking.found().json or {})["next"] == "wait"
    assert looking.strangers()[0]["inventory"] == "Maker, 64 cpus, 8 GPUs, no disk"

    accepted = looking.accept(pool="workers", name="w7")
    assert accepted.status_code == 200, accepted.text
    then = looking.next()

    record = looking.record(W3)
    assert (then["next"], then["arm"], then["task"]["machine"]) == ("install", record.arm, "w7")
    assert then["task"]["disk"]["select"] == {"type": "virtio"}
    assert looking.begin(W3).status_code == 200
    assert looking.strangers() == []
    assert looking.machine("w7")["pool"] == "workers"
    assert looking.machine("w7")["facts"]["cpus"] == 64


def test_an_accepted_machine_outlives_a_restart_and_its_documents_are_rendered(looking: LookingRack) -> None:
    looking.found()
    looking.accept(pool="workers", name="w7")
    arm = looking.record(W3).arm

    again = LookingRack(store=looking.store)

    assert (again.record(W3).arm, again.record(W3).state) == (arm, State.ARMED)
    assert "installing w7" in again.boot(W3)
    live = again.public(f"/v1/ignition/{W3}").text
    assert "install.json" in live
    assert "/opt/firstlight/discover" not in live


def test_listing_it_later_in_the_configuration_counts(looking: LookingRack) -> None:
    looking.found()
    looking.accept(pool="workers", name="w7")
    looking.cluster = cluster({"name": "w9", "mac": W3, "pool": "spare"})
    looking.operator("POST", "/v1/reload")

    assert looking.machine("w9")["pool"] == "spare"
    assert looking.site.cluster.machine("w7") is None


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "which pool? write --pool with one of: workers, spare"),
        ({"pool": "nope"}, 400, "no pool is called nope; there are: workers, spare"),
        ({"pool": "workers", "name": "W_7"}, 400, "W_7"),
        ({"pool": "workers", "name": "w1"}, 409, "another machine is called w1"),
        ({"pool": 7}, 400, "pool"),
        ({"pool": "workers", "resolve": "perhaps"}, 400, "resolve"),
    ],
)
def test_a_wish_that_makes_no_sense_changes_nothing(
    looking: LookingRack, body: dict[str, Any], status: int, says: str
) -> None:
    looking.found()
    answer = looking.accept(**body)

    assert answer.status_code == status, answer.text
    assert says in (answer.json or {})["reason"]
    assert len(looking.strangers()) == 1
    assert looking.site.accepted() == []


def test_an_unknown_machine_is_shown_by_its_mac_with_its_events(looking: LookingRack) -> None:
    looking.boot(W3)
    looking.boot("52:54:00:aa:00:09")
    looking.found(cpus=7)

    shown = looking.machine(W3)
    asked = looking.operator("GET", f"/v1/events?machine={W3}").json or {}
    assert (shown["name"], shown["facts"]["cpus"], shown["state"]) == (W3, 7, "discovered")
    assert [event["what"] for event in shown["events"]] == ["discovered"]
    assert shown["events"] == asked["events"]


def test_who_never_came_cannot_be_accepted(looking: LookingRack) -> None:
    assert looking.accept(W3, pool="workers").status_code == 404


def test_without_a_name_it_gets_one_from_its_mac(looking: LookingRack) -> None:
    looking.found()
    looking.accept(pool="spare")

    assert looking.machine(default_name(W3))["mac"] == W3


def test_another_live_system_than_its_pools_restarts_by_itself(looking: LookingRack) -> None:
    looking.found()
    looking.accept(pool="workers")

    assert looking.next(image="e" * 64)["next"] == "restart"


def test_what_a_pool_describes_and_accepts_is_armed_at_once() -> None:
    rack = LookingRack(cluster=matching(accepts=True, gpus=">=8", manufacturer="Mak*"))

    assert (rack.found(gpus=[GPU] * 7 + [BMC_SCREEN]).json or {})["next"] == "wait"
    assert (rack.found().json or {})["next"] == "install"
    assert "describes it" in rack.site.ledger.events_of(W3)[0].reason


@pytest.mark.parametrize(
    "match", [{"cpus": ">64"}, {"manufacturer": "Other"}, {"serial": "*"}, {"memory": ">=1GiB"}]
)
def test_a_rule_that_does_not_hold_or_of_which_nothing_was_said_accepts_nobody(match: dict[str, Any]) -> None:
    rack = LookingRack(cluster=matching(accepts=True, **match))

    assert (rack.found().json or {})["next"] == "wait"
    assert rack.strangers()[0]["pools"] == []


def test_machines_in_conflict_are_never_accepted_by_themselves() -> None:
    rack = LookingRack(cluster=matching(accepts=True, cpus=">=1"))
    rack.boot(W2, uuid=ONE)

    assert (rack.found(uuid=ONE).json or {})["next"] == "wait"
    assert rack.strangers()[0]["state"] == "conflict"
    assert "in conflict: uuid" in rack.next()["reason"]


def test_eight_unknown_machines_with_one_uuid_take_a_word_of_the_operator(looking: LookingRack) -> None:
    macs = [f"52:54:00:ee:00:{n:02x}" for n in range(8)]
    for mac in macs:
        looking.found(mac, uuid=ONE)

    assert {stranger["state"] for stranger in looking.strangers()} == {"conflict"}
    refused = looking.accept(macs[0], pool="workers")
    assert refused.status_code == 409
    assert "repeat with --resolve" in (refused.json or {})["reason"]
    assert looking.accept(macs[0], pool="workers", resolve=True).status_code == 200
    assert "installing" in looking.boot(macs[0], uuid=ONE)


def test_the_other_card_of_a_listed_machine_is_no_machine(looking: LookingRack) -> None:
    cards = [{"mac": W1, "bus": "pci"}, {"mac": OTHER_CARD, "bus": "pci"}]

    assert looking.found(OTHER_CARD, cards=cards).json == {
        "next": "restart",
        "reason": "this card belongs to w1, which boots from another one",
    }
    assert "this card belongs to w1" in looking.boot(OTHER_CARD)
    assert looking.accept(OTHER_CARD, pool="workers").status_code == 409


def test_the_facts_of_an_installer_name_its_cards_too(looking: LookingRack) -> None:
    looking.boot(W1, uuid=ONE)
    looking.tell("facts", facts={"cards": [{"mac": OTHER_CARD, "bus": "virtio"}, {"mac": "nonsense"}]})
    looking.boot(OTHER_CARD, uuid=ONE)

    assert "this card belongs to w1" in looking.boot(OTHER_CARD, uuid=ONE)
    assert looking.strangers()[0]["state"] == "discovered"


def test_inventories_are_bounded_and_those_who_lost_theirs_are_asked_again(
    looking: LookingRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers_module, "MOST_INVENTORIES", 100)
    monkeypatch.setattr(strangers_module, "MOST_STRANGERS", 150)
    macs = [f"52:54:00:ee:{n // 256:02x}:{n % 256:02x}" for n in range(400)]
    before = [looking.record(mac).to_bytes() for mac in (W1, W2)]
    for mac in macs:
        looking.clock.forward(1)
        assert looking.found(mac).status_code == 200

    assert sum(1 for _ in looking.store.scan("inventory/")) <= 100
    assert len(looking.strangers()) <= 150
    assert looking.next(macs[0])["next"] == "report"
    assert looking.next(macs[-1])["next"] == "wait"
    assert [looking.record(mac).to_bytes() for mac in (W1, W2)] == before


def test_a_flood_of_inventories_is_told_to_wait(looking: LookingRack) -> None:
    answers = [looking.found(f"52:54:00:ee:{n // 256:02x}:{n % 256:02x}").status_code for n in range(300)]

    assert answers.count(429) >= 100
    assert set(answers) == {200, 429}


WORDS = st.text(max_size=300) | st.none() | st.integers() | st.lists(st.text(max_size=5), max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.dictionaries(
        st.sampled_from(
            ["vendor", "serial", "uuid", "cpus", "memory", "disks", "cards", "gpus", "bmc", "firmware", "x"]
        ),
        WORDS
        | st.lists(
            st.dictionaries(st.sampled_from(["mac", "path", "size", "vendor", "device"]), WORDS), max_size=5
        ),
    )
)
def test_whatever_it_says_the_answer_is_plain_and_what_is_kept_is_clean(found: dict[str, Any]) -> None:
    rack = LookingRack(cluster=matching(accepts=True, serial="never"))
    answer = rack.ask("machine", "POST", "/v1/discovery", json={"mac": W3, "inventory": found})

    assert answer.status_code in (200, 400)
    kept = rack.store.get(f"inventory/{W3}")
    assert (kept is not None) == (answer.status_code == 200)
    if kept:
        shown = rack.operator("GET", f"/v1/machines/{W3}")
        assert shown.status_code == 200
        assert len(kept.value) < 64 * 1024
        assert all(part.isprintable() for part in texts(json.loads(kept.value)))


def texts(value: Any) -> list[str]:
    match value:
        case dict():
            return [text for inner in value.values() for text in texts(inner)]
        case list():
            return [text for inner in value for text in texts(inner)]
        case str():
            return [value]
        case _:
            return []


def test_an_accepted_machine_gets_what_a_node_gets_and_the_others_a_route_to_its_pods() -> None:
    rack = LookingRack(cluster=cluster({"name": "w1", "mac": W1, "address": "10.77.0.101"}, hosts=1))
    rack.site.read_joining = joining_of
    rack.boot(W3)
    assert "has not said which address it has" in rack.accept(pool="workers").text
    rack.found()
    before = rack.site.nodes

    accepted = rack.accept(pool="workers", name="w7")

    assert accepted.status_code == 200, accepted.text
    assert (accepted.json or {})["joins"]
    assert W3 in rack.site.nodes.planned
    assert b"route 10.2.1.0/24 10.77.0.150" in rack.site.nodes.shared
    assert rack.site.nodes.planned[W1] != before.planned[W1]
    document = rack.site.documents.get(W3, INSTALLED)
    assert document is not None
    assert b"firstlight-join.service" in document.content


@pytest.mark.parametrize(("plugin", "status"), [("bridge", 409), ("flannel", 200)])
def test_one_behind_a_relay_is_accepted_where_pods_are_reached_through_routers(
    plugin: str, status: int
) -> None:
    plain = cluster(hosts=1).model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["appliance"]["dhcp"]["subnets"] = [{"subnet": "10.78.0.0/24", "gateway": "10.78.0.1"}]
    plain["kubernetes"]["cni"] = {"plugin": plugin}
    rack = LookingRack(cluster=Cluster.model_validate(plain))
    rack.found(address="10.78.0.9")

    answer = rack.accept(pool="workers", name="w7")

    assert answer.status_code == status, answer.text
    if status == 409:
        assert "10.78.0.9 is behind a router, where cni bridge reaches no pods" in answer.text
    else:
        assert rack.record(W3).address == "10.78.0.9"


def test_a_pod_network_without_room_refuses_and_leaves_nothing_behind() -> None:
    rack = LookingRack(cluster=cluster({"name": "w1", "mac": W1, "address": "10.77.0.101"}, hosts=1))

    def full(_: Cluster) -> Joining:
        raise RenderError("2 nodes do not fit into 1 pod subnets")

    rack.site.read_joining = full
    rack.found()

    refused = rack.accept(pool="workers")
    assert (refused.status_code, rack.site.accepted(), len(rack.strangers())) == (409, [], 1)
    assert "do not fit" in refused.text


def joining_of(whole: Cluster) -> Joining:
    numbers = {machine.name: number for number, machine in enumerate(whole.machines)}
    return Joining(authority=b"CA", binaries={}, network=laid_out(whole, numbers))


@pytest.mark.parametrize("disk", [{"signatures": ["xfs"]}, {"system": "w7 of another rack"}])
def test_somebody_elses_server_that_boots_from_this_network_comes_back_to_its_work(
    looking: LookingRack, disk: dict[str, Any]
) -> None:
    answer = looking.found(disks=[{"path": "/dev/sda", "size": 1 << 30}, {"path": "/dev/sdb", **disk}])

    assert (answer.json or {})["next"] == "restart"
    assert f"machine accept {W3}" in looking.boot(W3)
    assert "kernel" not in looking.boot(W3)
    assert looking.strangers()[0]["state"] == "discovered"

    accepted = looking.accept(pool="workers", name="w7")
    assert (accepted.json or {})["message"] == (
        "accepted and armed: it installs when it boots from the network again"
    )
    assert "installing w7" in looking.boot(W3)


def test_a_stick_with_a_file_system_does_not_make_a_machine_look_at_work(looking: LookingRack) -> None:
    stick = {"path": "/dev/sdb", "removable": True, "signatures": ["iso9660"]}

    assert (looking.found(disks=[stick]).json or {})["next"] == "wait"
