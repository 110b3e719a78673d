"""A tree of host files is plain, ordered, and never opens a secret to everyone."""

import pytest

from bootstrap.errors import RenderError
from bootstrap.kubernetes.tree import HostFile, HostTree, Unit
from certs.secret import Secret


def test_files_are_sorted_whatever_order_they_came_in() -> None:
    tree = HostTree("m1", {"/b": HostFile(b"2"), "/a": HostFile(b"1")})
    assert list(tree.files) == ["/a", "/b"]


def test_a_unit_is_touched_by_its_files_and_by_all_in_its_folders() -> None:
    unit = Unit("etcd.service", ("/etc/etcd.conf", "/etc/kubernetes/pki/etcd/"), "etcd")
    tree = HostTree("m1", {}, (unit,))
    assert tree.units_touched_by("/etc/kubernetes/pki/etcd/server.crt") == (unit,)
    assert tree.units_touched_by("/etc/etcd.conf") == (unit,)
    assert tree.units_touched_by("/etc/etcd.conf.d") == ()
    assert tree.units_touched_by("/etc/kubernetes/pki/etcd-ca.crt") == ()


@pytest.mark.parametrize("path", ["etc/x", "/etc/../x", "/etc//x", "/etc/x/", ""])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(RenderError, match="not an absolute path"):
        HostTree("m1", {path: HostFile(b"")})


def test_a_secret_that_everyone_could_read_is_refused() -> None:
    with pytest.raises(RenderError, match="open to everyone"):
        HostTree("m1", {"/etc/key": HostFile(Secret(b"k"), 0o644)})


def test_a_tree_shows_no_secret() -> None:
    tree = HostTree("m1", {"/etc/key": HostFile(Secret(b"k3y"), 0o600)})
    assert "k3y" not in repr(tree) + repr(tree.files["/etc/key"])
