"""POST /v1/machine/gpus: who is believed, what is kept, and what the operator sees."""

import json
from typing import Any

import pytest

from bootstrap.gpu.taint import KEY
from bootstrap.model import Cluster
from bootstrap.states import State
from bootstrap.status import is_broken
from tests.unit.gpu.machines import A100, H100
from tests.unit.gpu.reports import report
from tests.unit.web.fakes import W1, W2, cluster
from tests.unit.web.gpu_rack import GpuRack, gpu_cluster, signature
from web.limits import REPORT_BURST, Buckets


@pytest.fixture
def rack() -> GpuRack:
    made = GpuRack()
    made.join()
    return made


def test_a_report_that_the_node_signed_is_kept_as_it_came(rack: GpuRack) -> None:
    text = rack.said()
    answer = rack.report(text)

    assert answer.status_code == 200
    kept = rack.kept("gpu")
    assert kept is not None
    assert (kept["report"], kept["heardAt"]) == (text, "2026-01-01T00:00:00Z")
    assert kept["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert rack.machine()["gpu"]["state"] == "ready"
    assert rack.events("gpus") == [("gpus", "ready")]


def test_the_same_again_is_no_event_and_kept_with_its_time(rack: GpuRack) -> None:
    rack.report()
    rack.clock.forward(300)

    assert rack.report().json == {"seq": 0, "driver": rack.report().json["driver"]}  # type: ignore[index]
    assert rack.events("gpus") == [("gpus", "ready")]
    kept = rack.kept("gpu")
    assert kept is not None
    assert kept["heardAt"] == "2026-01-01T00:05:00Z"


def test_the_answer_says_which_driver_these_gpus_are_to_have(rack: GpuRack) -> None:
    driver = {"branch": 570, "flavour": "open", "route": "sysext", "names": ["nvidia-drivers-570-open"]}

    assert (rack.report().json or {})["driver"] == driver
    assert (rack.report(rack.said(*[A100] * 8)).json or {})["driver"] is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"signature": signature("another text")}, 400),
        ({"signature": "AAAA"}, 400),
        ({"signature": "A" * 350}, 400),
        ({"signature": "no base64!"}, 400),
        ({"report": "{}"}, 400),
        ({"mac": W2}, 409),
        ({"arm": "00000000-0000-4000-8000-00000000ffff"}, 409),
        ({"mac": "52:54:00:ff:ff:ff"}, 404),
    ],
)
def test_what_is_not_the_node_s_own_word_changes_nothing(
    rack: GpuRack, changes: dict[str, Any], status: int
) -> None:
    assert rack.report(**changes).status_code == status
    assert rack.record().gpu is None
    assert rack.kept("gpu") is None


def test_junk_in_a_machine_s_name_does_not_silence_its_reports(rack: GpuRack) -> None:
    junk = {"mac": W1, "arm": rack.record().arm, "report": "{}", "signature": "AAAA"}
    for number in range(100):
        headers = {"X-Firstlight-Address": f"10.77.0.{200 + number % 2}"}
        answer = rack.ask("machine", "POST", "/v1/machine/gpus", json=junk, headers=headers)
        assert answer.status_code == (400 if number < 2 * REPORT_BURST else 429)

    assert rack.report().status_code == 200
    assert rack.gpus()["state"] == "ready"


def test_whoever_knows_the_arm_but_has_another_key_is_not_believed(rack: GpuRack) -> None:
    answer = rack.report(number=1)

    assert (answer.status_code, answer.json) == (
        400,
        {"reason": "signature: not signed by the node's own key"},
    )


@pytest.mark.parametrize(
    "said", [{"node": "w2"}, {"arm": "00000000-0000-4000-8000-00000000ffff"}], ids=["node", "arm"]
)
def test_a_report_of_another_node_or_arm_is_refused_although_it_is_signed(
    rack: GpuRack, said: dict[str, str]
) -> None:
    told: dict[str, Any] = {"arm": rack.record().arm, **said}
    text = report(**told).model_dump_json(by_alias=True)

    assert rack.report(text).status_code == 409


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "no json",
        json.dumps({"node": "w1"}),
        json.dumps({"state": "well"}),
        "[" * 100,
        "\ud800",
    ],
)
def test_what_is_signed_and_makes_no_sense_is_refused(rack: GpuRack, text: str) -> None:
    try:
        made = signature(text)
    except UnicodeEncodeError:
        made = signature("?")

    assert rack.report("x", report=text, signature=made).status_code == 400


def test_a_machine_that_has_not_joined_has_no_say() -> None:
    rack = GpuRack()
    rack.install()

    assert rack.report().status_code == 409


def test_arming_anew_forgets_its_gpus(rack: GpuRack) -> None:
    rack.report()

    rack.arm()

    assert rack.record().gpu is None
    assert rack.record().state is State.ARMED


def test_a_vanished_gpu_waits_for_a_person_until_it_is_back(rack: GpuRack) -> None:
    rack.report()
    rack.report(rack.said(*[H100] * 7, state="no-device", reason="7 of 8 GPUs on PCI"))
    rack.report(rack.said(*[H100] * 7, state="no-device", reason="7 of 8 GPUs on PCI"))

    machine = rack.machine()
    assert machine["gpu"]["alarm"] == "GPU 0000:08:00.0 has vanished from PCI; seat it, or write expected: 7"
    assert is_broken(machine)
    assert rack.events("alarm") == [("alarm", "gpu-vanished")]
    rack.report()
    assert rack.machine()["gpu"]["alarm"] == ""
    assert not is_broken(rack.machine())


def test_a_gpu_that_was_taken_out_on_purpose_is_no_alarm_when_the_pool_says_so(rack: GpuRack) -> None:
    rack.report()
    rack.report(rack.said(*[H100] * 7))
    rack.cluster = gpu_cluster(expected=7, products=["h100-sxm"])
    rack.site.load()

    rack.report(rack.said(*[H100] * 7))

    assert rack.machine()["gpu"]["alarm"] == ""


def at(*buses: int) -> list[dict[str, str]]:
    """Return GPUs on PCI at these buses."""
    return [{"address": f"0000:{bus:02x}:00.0", "id": H100, "driver": "nvidia"} for bus in buses]


@pytest.fixture
def counted_by_itself(rack: GpuRack) -> GpuRack:
    """A node in a pool that says nothing of how many GPUs it has; one of eight has vanished."""
    rack.cluster = gpu_cluster(products=["h100-sxm"])
    rack.site.load()
    rack.report(rack.said(devices=at(*range(1, 9))))
    rack.report(rack.said(devices=at(*range(1, 8))))
    assert rack.machine()["gpu"]["alarm"]
    return rack


def test_an_alarm_ends_when_as_many_gpus_are_there_at_other_addresses(counted_by_itself: GpuRack) -> None:
    rack = counted_by_itself
    rack.report(rack.said(devices=at(*range(1, 7), 0x21)))
    assert rack.machine()["gpu"]["alarm"], "seven"

    rack.report(rack.said(devices=at(*range(0x21, 0x29))))

    assert rack.machine()["gpu"]["alarm"] == ""
    assert not is_broken(rack.machine())


def test_a_bus_that_is_numbered_anew_is_no_alarm(rack: GpuRack) -> None:
    rack.cluster = gpu_cluster(products=["h100-sxm"])
    rack.site.load()
    rack.report(rack.said(devices=at(*range(1, 9))))
    rack.report(rack.said(devices=at(*range(0x21, 0x29))))

    assert rack.machine()["gpu"]["alarm"] == ""
    assert rack.events("alarm") == []
    rack.report(rack.said(devices=at(*range(0x21, 0x28))))
    assert rack.machine()["gpu"]["gone"] == ["0000:28:00.0"]


def test_a_machine_that_was_retired_has_no_alarm_and_is_not_held_back(counted_by_itself: GpuRack) -> None:
    rack = counted_by_itself
    rack.report(rack.said(devices=(), state="no-device"))
    rack.gate.look()
    assert rack.gpus()["part"] == "device"
    rack.operator("POST", "/v1/machines/w1/retire")

    assert (rack.gpus()["alarm"], rack.gpus()["part"], rack.gpus()["verdict"]) == ("", "", "")
    assert not is_broken(rack.machine())


def test_an_alarm_ends_with_the_gpu_section_of_its_pool(counted_by_itself: GpuRack) -> None:
    rack = counted_by_itself
    rack.cluster = cluster(hosts=1)
    rack.site.load()

    assert rack.machine()["gpu"]["alarm"] == ""
    assert not is_broken(rack.machine())


def test_a_node_with_other_addresses_in_every_report_does_not_fill_the_store(rack: GpuRack) -> None:
    rack.cluster = gpu_cluster(products=["h100-sxm"])
    rack.site.load()
    for turn in range(40):
        rack.clock.forward(60)
        buses = range(10 * turn % 250, 10 * turn % 250 + 2 + turn % 3)
        assert rack.report(rack.said(devices=at(*buses))).status_code == 200

    known = rack.record().gpu
    assert known is not None
    assert len(known.seen) + len(known.gone) == 4


def test_more_senders_than_are_counted_take_no_more_room(rack: GpuRack) -> None:
    buckets = Buckets(rack.clock, per_second=1, burst=1, most=3)
    assert [buckets.take(key) for key in "abcabc"] == [True] * 3 + [False] * 3

    assert [buckets.take(key) for key in "dbca"] == [True, False, False, True]
    assert len(buckets._levels) == 3


def test_all_gpus_of_all_nodes_are_told(rack: GpuRack) -> None:
    assert rack.gpus()["state"] is None
    assert "GPUs: not heard of yet" in rack.machine()["message"]
    rack.report()

    found = rack.gpus()

    assert (found["name"], found["state"], found["driver"], len(found["cards"])) == (
        *("w1", "ready", "570.133.20"),
        8,
    )
    assert found["cards"][7]["address"] == "0000:08:00.0"
    assert found["devices"][0] == "0000:01:00.0 10de:2330"
    assert rack.machine()["message"].endswith("; GPUs: ready")


def test_a_node_that_never_reports_is_silent_after_three_intervals(rack: GpuRack) -> None:
    rack.clock.forward(900)
    assert rack.gpus()["silent"] == ""

    rack.clock.forward(1)

    assert rack.gpus()["silent"] == "not heard of for 15m; journalctl -u firstlight-gpu on the node"


def test_a_node_that_was_well_a_week_ago_is_silent_and_not_held_for_that(rack: GpuRack) -> None:
    rack.node(gpus=8)
    rack.report()
    rack.gate.look()
    rack.clock.forward(7 * 86400)
    rack.gate.look()

    assert rack.gpus()["silent"].startswith("not heard of for 7d; ")
    assert KEY not in rack.taints
    rack.report()
    assert rack.gpus()["silent"] == ""


def test_a_machine_that_was_retired_or_is_installed_anew_is_not_silent(rack: GpuRack) -> None:
    rack.report()
    rack.arm()
    rack.clock.forward(86400)
    assert rack.gpus()["silent"] == ""

    rack.join(number=1)
    assert rack.gpus()["silent"] == "", "it has just joined"
    rack.operator("POST", "/v1/machines/w1/retire")
    rack.clock.forward(86400)
    assert rack.gpus()["silent"] == ""


def test_a_pool_without_gpus_has_no_part_in_it() -> None:
    rack = GpuRack(cluster=Cluster.model_validate(gpu_cluster().model_dump(mode="json", by_alias=True)))
    names = {one["name"] for one in (rack.operator("GET", "/v1/gpus").json or {})["nodes"]}

    assert names == {"w1"}  # w2 is of another pool
