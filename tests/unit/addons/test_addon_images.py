"""What pods call images, and what of them the mirror is to have."""

from typing import Any

import pytest

from bootstrap.adding.images import mirrored
from bootstrap.addons import Image
from bootstrap.addons.coredns import NEW
from bootstrap.errors import UsageError
from bootstrap.mirror import folder, wanted
from bootstrap.mirror.places import image_path
from bootstrap.model import Cluster, Mirror
from tests.unit.addons.worlds import cluster_with

METALLB = {"metallb": {"addresses": ["192.168.1.241-192.168.1.250"]}}
DIGEST = "sha256:" + "1" * 64


def with_mirror(cluster: Cluster, **mirror: Any) -> Cluster:
    return cluster.model_copy(update={"mirror": Mirror(**mirror)})


def built_here(cluster: Cluster) -> Cluster:
    binaries = cluster.kubernetes.binaries.model_copy(update={"directory": "/srv/kubernetes"})
    return cluster.model_copy(
        update={"kubernetes": cluster.kubernetes.model_copy(update={"binaries": binaries})}
    )


def test_pods_name_an_image_by_digest_and_by_tag_where_nodes_import_it() -> None:
    cluster = cluster_with("coredns", sample="lab")
    for one, wanted_text in (
        (cluster, NEW.pinned),
        (
            with_mirror(cluster, directory="mirror"),
            NEW.pinned,
        ),  # its programs are made here: nothing is imported
    ):
        assert NEW.reference(one) == wanted_text
    rack = cluster_with("coredns")
    assert NEW.reference(rack) == NEW.pinned == f"{NEW.name}@{NEW.digest}"
    assert NEW.reference(with_mirror(rack, directory="mirror")) == NEW.name
    assert NEW.reference(with_mirror(rack, images=(f"{NEW.name}@{DIGEST}",))) == NEW.name
    assert NEW.reference(built_here(with_mirror(rack, directory="mirror"))) == NEW.pinned
    assert Image("a.example/b:1").pinned == "a.example/b:1"


def test_the_mirror_has_those_of_addons_and_what_the_configuration_says_comes_first() -> None:
    rack = cluster_with("coredns")
    names = [name.partition("@")[0] for name in mirrored(rack)]

    assert names == [
        "nvcr.io/nvidia/k8s-device-plugin:v0.17.1",
        NEW.name,
    ]  # a cluster with GPUs has the plugin
    own = with_mirror(rack, images=(f"{NEW.name}@{DIGEST}",))
    assert mirrored(own)[0] == f"{NEW.name}@{DIGEST}"
    assert [name for name in mirrored(own) if NEW.name in name] == [f"{NEW.name}@{DIGEST}"]
    assert mirrored(built_here(rack)) == ()


def test_an_image_by_tag_alone_must_be_listed_with_its_digest() -> None:
    old = cluster_with(METALLB, version="v1.20.2")
    with pytest.raises(UsageError) as caught:
        mirrored(old)

    assert len(str(caught.value).splitlines()) == 2
    assert str(caught.value).splitlines()[0] == (
        "addons (nvidia-device-plugin, metallb): quay.io/metallb/controller:v0.12.1 would not be in the mirror; "
        "add quay.io/metallb/controller:v0.12.1@sha256:<digest> to mirror.images"
    )
    listed = tuple(f"quay.io/metallb/{name}:v0.12.1@{DIGEST}" for name in ("controller", "speaker"))
    assert set(listed) <= set(mirrored(with_mirror(old, images=listed)))


def test_pull_wants_them_and_nodes_get_them() -> None:
    rack = cluster_with("coredns")
    found = {one.name: one for one in wanted.source("images").wanted(rack)}

    assert found[NEW.name].version == NEW.digest
    assert found[NEW.name].url == f"docker://registry.k8s.io/coredns/coredns@{NEW.digest}"
    assert image_path(NEW.pinned) in folder._paths(rack).values()
