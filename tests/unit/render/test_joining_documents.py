"""What a machine that joins is told: scripts, units, programs by sum, and the documents that are served to it."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bootstrap.disk import read_bundle, write_bundle
from bootstrap.errors import RenderError
from bootstrap.kubernetes.nodes import node_documents
from bootstrap.kubernetes.pod_network import laid_out
from bootstrap.kubernetes.subnets import allotment
from bootstrap.model import Machine
from bootstrap.render import ignition
from bootstrap.render.bundle import NODES, Rendered, render_bundle
from bootstrap.render.node import Joining, revision_of, tar_of
from bootstrap.templates import read
from tests import samples

SUMS = {"kubelet": "a" * 64, "kube-proxy": "b" * 64}
IMAGES = {"pause.tar": "c" * 64}


def joining(name: str = "lab") -> Joining:
    cluster = samples.cluster(name)
    network = laid_out(cluster, allotment(cluster))
    return Joining(authority=b"the kubernetes authority\n", binaries=SUMS, images=IMAGES, network=network)


def rendered(name: str = "lab", *, joins: bool = True) -> Rendered:
    return render_bundle(samples.cluster(name), samples.KEYRING, joining(name) if joins else None)


@pytest.mark.parametrize("name", samples.NAMES)
def test_every_family_gets_what_a_node_needs(name: str) -> None:
    bundle = rendered(name)
    for machine in samples.cluster(name).machines:
        document = bundle[f"machines/{machine.name}/installed.ign"].content
        files, units = files_of(document), samples.units_of(document)

        assert files["/opt/firstlight/bin/endpoint"]["mode"] == 0o755
        assert files["/opt/firstlight/bin/join"]["mode"] == 0o755
        assert files["/opt/firstlight/bin/sync"]["mode"] == 0o755
        assert {"kubelet.service", "kube-proxy.service", "firstlight-join.service"} <= set(units)
        assert "firstlight-endpoint.service" in units
        assert {"firstlight-join.timer", "firstlight-sync.service", "firstlight-sync.timer"} <= set(units)
        source = files["/opt/firstlight/bin/kubelet"]["contents"]
        assert source["verification"] == {"hash": f"sha256-{'a' * 64}"}
        assert source["source"].endswith(f"/artifacts/sha256/{'a' * 64}")
        assert files["/opt/firstlight/bin/kubelet"]["mode"] == 0o755
        assert "/opt/firstlight/images/pause.tar" in files
        assert files["/etc/systemd/system/kubelet.service.d/10-joined.conf"]


def files_of(document: bytes) -> dict[str, Any]:
    return {file["path"]: file for file in json.loads(document)["storage"]["files"]}


def test_a_node_knows_its_name_its_card_and_its_appliance() -> None:
    files = samples.files_of(rendered(joins=True)["machines/w2/installed.ign"].content)

    assert files["/etc/firstlight/node.env"] == (
        "NODE_NAME=w2\nNODE_MAC=52:54:00:77:00:02\nNODE_SERVER=https://10.77.0.1:8443\n",
        0o644,
    )
    assert files["/opt/firstlight/bin/join"][0] == read("node/join")


def test_without_joining_nothing_of_it_is_there() -> None:
    bundle = rendered(joins=False)

    assert NODES not in bundle
    assert not [path for path in bundle if path.endswith("node.json")]
    assert b"firstlight-join" not in bundle["machines/w1/installed.ign"].content
    assert bundle == samples.bundle("lab")


def test_a_node_gets_one_tar_of_its_own_documents_and_those_of_all() -> None:
    bundle = rendered()
    own, shared = bundle["machines/w1/node.json"].content, bundle[NODES].content

    content = tar_of(own, shared)

    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {entry.name: (entry.mode, tar.extractfile(entry).read()) for entry in tar}  # type: ignore[union-attr]
        assert {(entry.uid, entry.gid, entry.mtime) for entry in tar} == {(0, 0, 0)}
    cluster, network = samples.cluster("lab"), joining().network
    wanted = node_documents(cluster, machine(), b"the kubernetes authority\n", network)
    lines = found.pop(".restarts")[1].decode().splitlines()
    assert {path: text for path, (_, text) in found.items()} == {
        path.lstrip("/"): file.content for path, file in wanted.items()
    }
    assert all(oct(found[path.lstrip("/")][0]) == oct(file.mode) for path, file in wanted.items())
    assert "/var/lib/kubelet/config.yaml kubelet.service" in lines
    assert "/etc/firstlight/routes firstlight-pod-network.service" in lines
    assert b'"route 10.' not in own
    assert tar_of(own, shared) == content


def machine() -> Machine:
    found = samples.cluster("lab").machine("w1")
    assert found is not None
    return found


def test_the_revision_follows_from_both() -> None:
    assert revision_of(b"a", b"b") == revision_of(b"a", b"b")
    assert (
        len(
            {
                revision_of(b"a", b"b"),
                revision_of(b"b", b"a"),
                revision_of(b"ab", b""),
                revision_of(b"a", b"c"),
            }
        )
        == 4
    )


def test_nothing_of_it_is_secret() -> None:
    for path, file in rendered().items():
        assert b"PRIVATE" not in file.content or path.endswith("installed.ign"), path
        assert b"BEGIN PRIVATE KEY" not in file.content


def test_a_large_tree_of_nodes_is_changed_in_place(tmp_path: Path) -> None:
    """From fifty machines on a tree has an index, which must know of the third document."""
    cluster = samples.cluster("lab")
    machines = tuple(
        cluster.machines[0].model_copy(
            update={"name": f"n{number}", "mac": f"52:54:00:77:01:{number:02x}", "address": None}
        )
        for number in range(60)
    )
    many = cluster.model_copy(update={"machines": machines})
    subnets = allotment(many)

    def bundle(authority: bytes, numbers: dict[str, int]) -> Rendered:
        return render_bundle(
            many,
            samples.KEYRING,
            Joining(authority=authority, binaries=SUMS, network=laid_out(many, numbers)),
        )

    first = bundle(b"one\n", subnets)
    moved = bundle(b"one\n", {**subnets, "n7": 200})
    assert [name for name in first.inputs if first.inputs[name] != moved.inputs[name]] == ["n7"]
    other = bundle(b"two\n", subnets)
    assert all(first.inputs[name] != other.inputs[name] for name in first.inputs)
    for wanted in (first, moved, other, render_bundle(many, samples.KEYRING), first):
        write_bundle(tmp_path / "bundle", wanted)
        assert {path: file.content for path, file in read_bundle(tmp_path / "bundle").items()} == {
            path: file.content for path, file in wanted.items()
        }
        assert write_bundle(tmp_path / "bundle", wanted) is False


def test_a_mode_that_lost_its_prefix_is_refused() -> None:
    with pytest.raises(RenderError):
        ignition.fetched("/opt/x", "http://x/", "a" * 64, mode=755)
