"""A machine that comes back under its name, or another one under the name of one that went."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bootstrap.kubernetes.access import Signer
from bootstrap.records.model import MachineRecord
from bootstrap.states import State
from tests.unit.web.fakes import W1, W2, cluster
from tests.unit.web.joining import JoiningRack, csr, serving, view
from web.approver import Approver, former_until

NODE = "system:node:w1"
A_DAY = 24 * 3600
W9 = "52:54:00:aa:00:09"


class Life(JoiningRack):
    """A rack whose w1 is in the cluster since a day."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.approver = Approver(self.site)
        self.install()
        assert self.claim().status_code == 200
        self.clock.forward(A_DAY)

    def file(self, name: str, request: bytes, signer: Signer = Signer.CLIENT) -> None:
        """File a request as the node w1, whoever of its bearers that is."""
        self.kube.file(name, signer, request, user=NODE)

    def became(self, name: str) -> str:
        self.approver.look()
        found = self.kube.requests[name]
        return "approved" if found.is_approved else found.refusal.partition(":")[0] or "pending"

    def reinstall(self) -> None:
        """Erase w1, install it, and let it join with a new key."""
        self.arm()
        self.install()
        assert self.claim(csr(number=1)).status_code == 200


@pytest.fixture
def rack() -> Life:
    return Life()


def test_the_old_system_gets_nothing_while_its_machine_is_armed(rack: Life) -> None:
    rack.arm()
    rack.file("old", csr(number=2).encode())
    rack.file("old-serving", serving(number=2), Signer.SERVING)

    assert (rack.became("old"), rack.became("old-serving")) == ("denied", "denied")


def test_a_stale_request_of_the_old_system_is_not_granted_after_the_rejoin(rack: Life) -> None:
    rack.file("stale", csr(number=2).encode())
    rack.reinstall()

    assert rack.became("stale") == "pending"
    claim = rack.record().claim
    assert claim is not None
    assert claim.renewed == ""


def test_renewals_wait_until_the_certificates_of_the_earlier_arm_have_ended(rack: Life) -> None:
    rack.reinstall()
    rack.clock.forward(5 * A_DAY)
    rack.file("renewal", csr(number=3).encode())

    assert rack.became("renewal") == "pending"
    rack.clock.forward(A_DAY)
    claim = rack.record().claim
    assert claim is not None
    assert claim.expires_at is not None
    assert rack.clock.now < claim.expires_at  # in time: the new one is younger
    assert rack.became("renewal") == "approved"


def test_the_new_node_gets_its_serving_certificate_at_once(rack: Life) -> None:
    rack.reinstall()
    rack.file("serving", serving(number=1), Signer.SERVING)

    assert rack.became("serving") == "approved"


def test_a_wrong_request_is_denied_at_once_all_the_same(rack: Life) -> None:
    rack.reinstall()
    rack.file("wrong", csr("w2", 3).encode())

    assert rack.became("wrong") == "denied"


def test_the_node_object_of_the_earlier_life_is_taken_over(rack: Life) -> None:
    rack.kube.seen = [view(is_ready=True)]
    rack.approver.look()
    rack.arm()
    rack.kube.seen = [view(is_ready=False, message="Kubelet stopped posting node status.")]
    rack.approver.look()
    assert (
        rack.record().state is State.ARMED
    )  # what the cluster says of the old node is no matter of the new one

    rack.install()
    rack.claim(csr(number=1))
    rack.approver.look()
    assert rack.machine()["message"] == "joined; not Ready: Kubelet stopped posting node status."
    rack.kube.seen = [replace(view(is_ready=True), is_cordoned=True)]
    rack.approver.look()
    assert rack.record().state is State.READY
    assert rack.machine()["message"].endswith(", cordoned")


def test_retiring_after_a_rejoin_tells_the_last_end_of_all(rack: Life) -> None:
    ends = rack.record().access_until
    rack.arm()
    assert rack.record().access_until == ends
    told = rack.operator("POST", "/v1/machines/w1/retire").json or {}

    assert told["reason"].endswith("its certificate ends at 2026-01-08 00:00 UTC at the latest")
    assert told["accessUntil"] == "2026-01-08T00:00:00Z"


def test_a_machine_that_never_joined_has_no_access_to_lose(rack: Life) -> None:
    assert rack.machine("w2")["accessUntil"] is None


@pytest.mark.parametrize("goes", ["retired first", "just replaced"])
def test_other_hardware_under_the_same_name_is_the_node_from_then_on(rack: Life, goes: str) -> None:
    if goes == "retired first":
        rack.operator("POST", "/v1/machines/w1/retire")
    rack.cluster = cluster({"name": "w1", "mac": W9}, {"name": "w2", "mac": W2, "pool": "spare"}, hosts=1)
    assert rack.operator("POST", "/v1/reload").status_code == 200
    rack.install(W9)
    assert rack.claim(csr(number=4), W9).status_code == 200
    rack.kube.seen = [view(is_ready=True)]
    rack.file("old-hardware", csr(number=5).encode())

    assert rack.became("old-hardware") == "pending"
    assert rack.record(W9).state is State.READY
    rack.clock.forward(6.5 * A_DAY)
    rack.file("new-hardware", csr(number=6).encode())
    assert rack.became("new-hardware") == "approved"
    claim = rack.record(W9).claim
    assert claim is not None
    assert claim.renewed


def test_a_machine_of_another_name_holds_nobody_up(rack: Life) -> None:
    found = rack.record()
    other = MachineRecord(
        mac=W2, name="w2", since=rack.clock.now, former_until=rack.clock.now + timedelta(days=7)
    )

    assert former_until(found, [found, other]) is None
    assert former_until(found, [found, other.but(name="w1")]) == other.former_until
    assert rack.record(W1).former_until is None


def test_a_certificate_lives_as_long_as_the_configuration_says() -> None:
    short = cluster(hosts=1)
    kubelet = short.kubernetes.kubelet.model_copy(update={"certificate_life": 3600})
    kubernetes = short.kubernetes.model_copy(update={"kubelet": kubelet})
    rack = JoiningRack(cluster=short.model_copy(update={"kubernetes": kubernetes}))
    rack.kube.life = timedelta(hours=1)  # the fake asserts that this is asked for
    rack.install()

    assert rack.claim().status_code == 200
    assert rack.record().access_until == rack.clock.now + timedelta(hours=1)
