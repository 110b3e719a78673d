"""Accepted machines as part of the cluster, and their copy in the work folder."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bootstrap import accepted
from bootstrap.accepted import composed, read, write
from bootstrap.allotment import pod_subnets
from bootstrap.errors import StateError
from bootstrap.records.model import Accepted
from tests.unit.web.fakes import W1, W3, cluster

W7 = Accepted(mac=W3, name="w7", pool="workers")


def test_it_is_a_machine_like_those_that_are_listed() -> None:
    whole = composed(cluster(), [W7])

    machine = whole.machine("w7")
    assert machine is not None
    assert (machine.mac, machine.pool, machine.address) == (W3, "workers", None)
    assert whole.machine_by_mac(W3) is machine
    assert whole.machine_by_mac(W1) is not None
    assert cluster().machine("w7") is None


@pytest.mark.parametrize(
    "one",
    [
        W7.but(mac=W1),
        W7.but(name="w1"),
        W7.but(name="m1"),
        W7.but(pool="gone"),
    ],
)
def test_what_the_configuration_says_comes_first(one: Accepted) -> None:
    before = cluster(hosts=1)

    assert composed(before, [one]) == before


def test_an_address_that_another_has_is_given_up() -> None:
    listed = cluster({"name": "w1", "mac": W1, "address": "10.77.0.150"})
    fine, taken = W7.but(address="10.77.0.151"), W7.but(address="10.77.0.150")

    assert composed(listed, [fine]).machines[-1].address == IPv4Address("10.77.0.151")
    assert composed(listed, [taken]).machines[-1].address is None
    assert composed(listed, [W7.but(address="10.77.0.1")]).machines[-1].address is None


def test_the_copy_is_read_as_it_was_written_and_written_only_if_it_differs(tmp_path: Path) -> None:
    write(tmp_path, [])
    assert not (tmp_path / accepted.FILE).exists()
    write(tmp_path, [W7])
    first = (tmp_path / accepted.FILE).stat()
    write(tmp_path, [W7])

    assert read(tmp_path) == (W7,)
    assert (tmp_path / accepted.FILE).stat().st_ino == first.st_ino
    assert first.st_mode & 0o777 == 0o600


def test_without_a_copy_there_are_none_and_a_damaged_one_says_what_to_do(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") == ()
    for text in ("[", "{}", '[{"mac": 1}]', "[1]"):
        (tmp_path / accepted.FILE).write_text(text)
        with pytest.raises(StateError, match=r"accepted\.json: is damaged .*; remove it"):
            read(tmp_path)


def test_its_pod_subnet_is_of_the_same_table_and_stays_its_own(tmp_path: Path) -> None:
    before = pod_subnets(cluster(), tmp_path)
    with_it = pod_subnets(composed(cluster(), [W7]), tmp_path)
    later = pod_subnets(
        cluster({"name": "w1", "mac": W1}, {"name": "new", "mac": "52:54:00:aa:00:09"}), tmp_path
    )

    assert before.items() < with_it.items()
    assert later["w7"] == with_it["w7"]
    assert len(set(later.values())) == len(later)
