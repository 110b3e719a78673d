"""Whose data an etcd folder holds, by bytes that real members wrote."""

from dataclasses import replace

import pytest

from bootstrap.apply import etcd_data
from bootstrap.apply.etcd_data import Etcd, Ids, from_json, ids_in, membership_problem, problems, wanted
from bootstrap.apply.facts import Facts
from bootstrap.kubernetes.tree import HostFile, HostTree
from tests.unit.apply.sample_hosts import empty, etcd_of, tree_of

# Two members of etcd 3.4.23: m1=http://127.0.0.1:21380,m2=http://127.0.0.1:22380, token rack1.
M1 = bytes.fromhex(
    "040000000000008408041000000000001f00000000000081080110a5d8e5b00d1a1508eba0cecdf2f9d2ae5110bfbcf5f5b9d3a19dc401"
    "000e00000000000082080510ffb6aca0031a0408001000"
)
M2 = bytes.fromhex(
    "040000000000008408041000000000002000000000000000080110e3dcb2b10e1a1608818399b6c2bd9f8de30110bfbcf5f5b9d3a19dc401"
    "0e00000000000082080510e4a381aa071a0408001000"
)
FLAGS = (
    b"ExecStart=/opt/firstlight/bin/etcd --name=m1 \\\n"
    b"  --initial-cluster=m1=http://127.0.0.1:21380,m2=http://127.0.0.1:22380 \\\n"
    b"  --initial-cluster-state=new --initial-cluster-token=rack1\n"
)
MINE = etcd_of([HostTree("m1", {"/etc/systemd/system/etcd.service": HostFile(FLAGS)})])


def facts(name: str, wal: bytes | None, *, marked: bool = False) -> Facts:
    return replace(empty(name), etcd_wal=wal, had_etcd=marked)


def asked(m1: bytes | None, m2: bytes | None, record: Etcd | None = None, **more: bool) -> dict[str, str]:
    return problems(MINE, record, {"m1": facts("m1", m1, **more), "m2": facts("m2", m2)})


def test_the_numbers_in_a_real_log_are_those_that_the_flags_make() -> None:
    assert [ids_in(M1), ids_in(M2)] == [
        Ids(MINE.cluster, MINE.members["m1"]),
        Ids(MINE.cluster, MINE.members["m2"]),
    ]
    assert f"{MINE.cluster:016x}" == "c43a869b9ebd5e3f"


@pytest.mark.parametrize("length", range(len(M1)))
def test_a_log_that_is_cut_anywhere_is_told_from_a_whole_one(length: int) -> None:
    assert ids_in(M1[:length]) in {None, ids_in(M1)}


def test_what_is_no_log_is_none() -> None:
    assert [ids_in(text) for text in (b"", b"\0" * 72, b"\xff" * 72, b"#!/bin/sh\n" * 8)] == [None] * 4


def test_members_with_their_own_data_and_fresh_ones_are_fine() -> None:
    assert asked(M1, M2) == {}
    assert asked(None, None) == {}
    assert asked(M1, None) == {}  # the first start was cut before m2


def test_data_of_another_cluster_is_told() -> None:
    other = bytearray(M1)
    other[50] ^= 1
    assert list(asked(bytes(other), M2)) == ["m1"]


def test_a_copy_of_another_members_data_is_told() -> None:
    assert "is a copy of the data of m1" in asked(M1, M1)["m2"]


def test_data_that_cannot_be_read_is_told() -> None:
    assert "not readable as etcd's" in asked(b"\0" * 72, None)["m1"]


@pytest.mark.parametrize("seen", [frozenset({"m1"}), frozenset[str]()])
def test_lost_data_is_told_by_the_hosts_mark_or_by_our_record(seen: frozenset[str]) -> None:
    told = asked(None, M2, replace(MINE, seen=seen), marked=not seen)

    assert list(told) == ["m1"]
    assert f"etcdctl member remove {MINE.members['m1']:016x}" in told["m1"]


def test_the_record_counts_when_flags_have_changed() -> None:
    later = etcd_of([HostTree("m1", {"/x/etcd.service": HostFile(FLAGS.replace(b"rack1", b"rack2"))})])
    host = {"m1": facts("m1", M1)}

    assert list(problems(later, None, host)) == ["m1"]
    assert problems(later, MINE, host) == {}


def test_other_members_than_the_cluster_was_made_with_are_refused() -> None:
    alone = replace(MINE, members={"m1": MINE.members["m1"]}, seen=frozenset({"m1"}))

    assert "apply does not change members" in membership_problem(MINE, alone)
    assert membership_problem(MINE, replace(alone, seen=frozenset())) == ""
    assert membership_problem(MINE, replace(MINE, seen=frozenset({"m1"}))) == ""
    assert membership_problem(MINE, None) == ""


def test_the_record_comes_back_as_it_was_written() -> None:
    record = replace(MINE, seen=frozenset({"m2"}))

    assert from_json(record.to_json()) == record


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"clusterId": "x", "members": {}, "seen": []}'])
def test_a_damaged_record_is_told(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any of them
        from_json(text)


def test_trees_without_etcd_have_no_cluster() -> None:
    assert wanted([HostTree("m1", {})]) is None
    assert wanted([tree_of("m1")]) == wanted([tree_of("m2")])
    assert etcd_data.FOLDER == "/var/lib/etcd"
