"""Once the state lies on the node, the cluster has it no more: no second handing over brings it to life again."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from bootstrap.errors import ApiDown
from bootstrap.handover import fence, unpack
from bootstrap.handover.moving import hand_over
from bootstrap.records.model import MachineRecord
from bootstrap.states import State
from tests.unit.handover.rack import NOW, FileCluster, Rack

FAILED = MachineRecord(mac="52:54:00:aa:00:01", name="w1", state=State.FAILED, since=NOW)


def states(rack: Rack) -> list[str]:
    """Return the Secrets that hold state."""
    return [name for name in rack.api.of_kind("Secret") if "-state-" in name]


def test_the_state_leaves_the_cluster_when_both_parts_are_ready(rack: Rack) -> None:
    assert hand_over(rack.move(), rack.api)

    assert states(rack) == []
    assert len(rack.api.of_kind("Secret")) == 2
    standing = fence.read(rack.work)
    assert standing is not None
    assert standing.is_laid
    assert rack.machines(rack.node) == {"w1": State.READY}


def test_it_stays_in_the_cluster_until_both_parts_are_ready(rack: Rack) -> None:
    api = rack.api
    api.is_pulled = False
    assert not hand_over(rack.move(), api)
    assert len(states(rack)) == 2

    assert hand_over(rack.move(), rack.api)
    assert states(rack) == []


def test_a_second_run_does_not_send_it_and_the_same_pods_go_on(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    before = rack.api.of_kind("Deployment")
    rack.put(FAILED, into=rack.node)

    class Watched(FileCluster):
        def apply(self, objects: Iterable[Mapping[str, Any]], *, is_trial: bool = False) -> list[str]:
            each = list(objects)
            kinds = [one["metadata"]["name"] for one in each if one["kind"] == "Secret"]
            assert is_trial or not any("-state-" in name for name in kinds)
            return super().apply(each, is_trial=is_trial)

    assert hand_over(rack.move(), Watched(rack.api.file))
    assert rack.api.of_kind("Deployment") == before
    assert rack.machines(rack.node) == {"w1": State.FAILED}


def test_a_cut_before_it_left_the_cluster_is_made_good_by_the_next_run(rack: Rack) -> None:
    def gone(kind: str, name: str, **_: object) -> bool:
        raise ApiDown(f"{kind} {name}: nobody answers")

    api = rack.api
    api.delete = gone  # type: ignore[method-assign]  # an API server that ends then
    with pytest.raises(ApiDown):
        hand_over(rack.move(), api)
    assert len(states(rack)) == 2
    assert hand_over(rack.move(), rack.api)
    assert states(rack) == []


def test_a_node_without_its_disk_starts_nothing(rack: Rack) -> None:
    hand_over(rack.move(), rack.api)
    rack.node.rename(rack.folder / "unmounted")
    rack.node.mkdir()

    with pytest.raises(unpack.Damaged, match="is its disk mounted"):
        hand_over(rack.move(), rack.api)  # its pod starts anew
    assert list(rack.node.iterdir()) == []
    rack.node.rmdir()
    (rack.folder / "unmounted").rename(rack.node)
    assert hand_over(rack.move(), rack.api)


def test_a_fence_of_before_is_read(rack: Rack) -> None:
    (rack.work / fence.FILE).write_text(
        '{"id": "0123456789ab", "node": "w1", "at": "2026-11-23T09:00:00Z", "stage": "open"}'
    )
    standing = fence.read(rack.work)
    assert standing is not None
    assert not standing.is_laid
