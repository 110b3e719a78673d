"""The folder that a control-plane host exports: to the addresses of nodes alone, and without root unless one asks."""

from typing import Any

import pytest

from bootstrap.adding.rendering import Given, choose, warnings
from bootstrap.kubernetes.control_plane import host_tree
from bootstrap.kubernetes.nfs_export import EXPORTS, SERVICE, clients
from bootstrap.kubernetes.subnets import allotment
from bootstrap.kubernetes.tree import HostTree
from bootstrap.model import Cluster
from tests.unit.addons.worlds import cluster_with
from tests.unit.kubernetes.planes import keyring_of, programs, text_of

UNIT = f"/etc/systemd/system/{SERVICE}"


def cluster(*, node: bool = False, **export: Any) -> Cluster:
    options = {"server": "192.168.1.10", "path": "/srv/nfs", "export": {"host": "m1", **export}}
    made = cluster_with({"nfs-provisioner": options})
    hosts = tuple(host.model_copy(update={"node": node}) for host in made.control_plane.hosts)
    return made.model_copy(update={"control_plane": made.control_plane.model_copy(update={"hosts": hosts})})


def tree(made: Cluster) -> HostTree:
    return host_tree(made, "m1", keyring_of("example"), programs(made, "m1"), allotment(made))


def test_nodes_may_mount_it_by_their_addresses_and_nobody_else() -> None:
    made = cluster()
    exports = text_of(tree(made), EXPORTS).splitlines()

    assert [str(address) for address in clients(made)] == ["192.168.1.201"]
    assert exports[1:] == ["/srv/nfs 192.168.1.201(rw,sync,no_subtree_check,root_squash)"]
    assert "*" not in "".join(exports)


def test_a_host_that_is_a_node_may_too() -> None:
    assert text_of(tree(cluster(node=True)), EXPORTS).splitlines()[1].startswith("/srv/nfs 192.168.1.10(")


def test_the_server_reads_it_anew_when_it_changes() -> None:
    found = tree(cluster())
    (unit,) = (unit for unit in found.units if unit.name == SERVICE)

    assert unit.reads == (EXPORTS, UNIT)
    assert (
        found.units[-1] is unit
    )  # after the control plane: without a server on the host, the cluster stands
    assert "install -d -m 0755 -o 65534 -g 65534 /srv/nfs; exportfs -r'" in text_of(found, UNIT)
    assert "Requires=nfs-server.service\n" in text_of(found, UNIT)


def test_root_is_nobody_unless_one_asks_and_then_one_is_warned() -> None:
    for made, squash, warned in (
        (cluster(), "root_squash", False),
        (cluster(rootSquash=False), "no_root_squash", True),
    ):
        (one,) = choose(made, ("nfs-provisioner",))
        found = warnings(made, one, Given())
        assert f",{squash})" in text_of(tree(made), EXPORTS)
        assert any("makes root of any node root of all files of /srv/nfs" in line for line in found) is warned


@pytest.mark.parametrize(
    "addons", [(), ({"nfs-provisioner": {"server": "192.168.1.5", "path": "/nfsroot"}},)]
)
def test_a_server_of_others_is_left_alone(addons: Any) -> None:
    found = tree(cluster_with(*addons))

    assert EXPORTS not in found.files
    assert UNIT not in found.files
