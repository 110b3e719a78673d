"""What stands on a control-plane host, who may read it, and what is restarted for what."""

from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.errors import RenderError
from bootstrap.kubernetes.control_plane import host_tree, wanted_binaries
from bootstrap.kubernetes.releases import RELEASES
from bootstrap.kubernetes.subnets import allotment
from bootstrap.kubernetes.tree import LocalFile
from certs.keyring import PublicKeyring
from certs.secret import Secret
from tests.unit.kubernetes import planes
from tests.unit.kubernetes.planes import cluster_of, flags_of, keyring_of, programs, text_of, tree_of

UNITS = "/etc/systemd/system"
PKI = "/etc/kubernetes/pki"
PLANE = [
    "etcd.service",
    "kube-apiserver.service",
    "kube-controller-manager.service",
    "kube-scheduler.service",
]
VERSIONS = [f"v1.{minor}.1" for minor in RELEASES]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("nodes", [False, True])
def test_every_release_has_a_tree(version: str, nodes: bool) -> None:  # noqa: FBT001  # a parameter of pytest's
    tree = tree_of("lab", version=version, nodes=nodes)

    assert [unit.name for unit in tree.units][:4] == PLANE
    theirs = {f"{UNITS}/{name}.service" for name in ("containerd", "systemd-modules-load", "systemd-sysctl")}
    assert {f"{UNITS}/{unit.name}" for unit in tree.units} - theirs <= set(tree.files)
    assert tree.is_node is nodes


def test_the_same_input_gives_the_same_tree() -> None:
    assert tree_of("ha") == tree_of("ha")


def test_a_host_without_etcd_runs_none() -> None:
    cluster = cluster_of("ha")
    cluster = cluster.model_copy(update={"etcd": cluster.etcd.model_copy(update={"members": ("m1",)})})
    tree = host_tree(cluster, "m2", keyring_of("ha"), programs(cluster, "m2"), {})

    assert [unit.name for unit in tree.units] == PLANE[1:]
    assert not [path for path in tree.files if path.endswith("etcd/server.key") or "snapshot" in path]
    assert flags_of(tree, "kube-apiserver")["etcd-servers"] == "https://172.16.0.11:2379"


def test_an_api_server_asks_the_member_beside_it_alone() -> None:
    """A frozen member held up every third write through all API servers for 40 seconds."""
    for host in ("m1", "m2", "m3"):
        assert flags_of(tree_of("ha", host), "kube-apiserver")["etcd-servers"] == "https://127.0.0.1:2379"


def test_all_members_know_each_other_in_one_order() -> None:
    wanted = ",".join(f"m{n}=https://172.16.0.1{n}:2380" for n in (1, 2, 3))

    for host in ("m1", "m2", "m3"):
        flags = flags_of(tree_of("ha", host), "etcd")
        assert (flags["name"], flags["initial-cluster"]) == (host, wanted)
        assert flags["initial-cluster-state"] == "new"
        assert flags["client-cert-auth"] == flags["peer-client-cert-auth"] == "true"


@pytest.mark.parametrize("nodes", [False, True])
def test_every_key_is_for_its_reader_alone(nodes: bool) -> None:  # noqa: FBT001  # a parameter of pytest's
    tree = tree_of("lab", nodes=nodes)
    readers = {
        path: (file.group, file.mode) for path, file in tree.files.items() if isinstance(file.content, Secret)
    }

    assert readers == {
        f"{PKI}/apiserver.key": ("kube-apiserver", 0o640),
        f"{PKI}/apiserver-etcd-client.key": ("kube-apiserver", 0o640),
        f"{PKI}/apiserver-kubelet-client.key": ("kube-apiserver", 0o640),
        f"{PKI}/front-proxy-client.key": ("kube-apiserver", 0o640),
        f"{PKI}/etcd/server.key": ("etcd", 0o640),
        f"{PKI}/etcd/peer.key": ("etcd", 0o640),
        f"{PKI}/kubelet-ca.key": ("kube-controller-manager", 0o640),
        f"{PKI}/sa.key": ("kube-token-signers", 0o640),
        "/etc/kubernetes/apiserver/encryption.yaml": ("kube-apiserver", 0o640),
        "/etc/kubernetes/controller-manager.conf": ("kube-controller-manager", 0o640),
        "/etc/kubernetes/scheduler.conf": ("kube-scheduler", 0o640),
    }, "a kubelet's key is made on its host"


def test_no_authority_s_key_but_that_for_kubelets_is_on_a_host() -> None:
    keyring = keyring_of("lab")
    held = {
        file.content.reveal() for file in tree_of("lab").files.values() if isinstance(file.content, Secret)
    }

    assert keyring.keys["kubelet-ca"].reveal() in held
    assert not {"ca", "etcd/ca", "front-proxy-ca", "provisioning/ca"} & set(keyring.keys)
    for row in ("admin", "super-admin", "claims", "status", "gate", "provisioning/server"):
        assert keyring.keys[row].reveal() not in held


def reads(name: str, *, nodes: bool = False) -> set[str]:
    units = {unit.name: set(unit.reads) for unit in tree_of("lab", version="v1.36.4", nodes=nodes).units}
    return {path for path in units[name] if not path.startswith((UNITS, "/opt"))}


def test_a_renewed_certificate_restarts_exactly_who_reads_it() -> None:
    assert reads("etcd.service") == {
        f"{PKI}/etcd/{name}" for name in ("ca.crt", "peer.crt", "peer.key", "server.crt", "server.key")
    }
    assert reads("kube-scheduler.service") == {
        "/etc/kubernetes/scheduler.conf",
        "/etc/kubernetes/scheduler.yaml",
    }
    assert reads("kube-controller-manager.service") == {
        "/etc/kubernetes/controller-manager.conf",
        f"{PKI}/ca.crt",
        f"{PKI}/kubelet-ca.crt",
        f"{PKI}/kubelet-ca.key",
        f"{PKI}/sa.key",
    }
    assert reads("kube-apiserver.service") == {
        *(
            f"{PKI}/{name}"
            for name in ("client-ca.crt", "etcd/ca.crt", "front-proxy-ca.crt", "kubelet-ca.crt")
        ),
        *(f"{PKI}/sa.{end}" for end in ("key", "pub")),
        *(
            f"{PKI}/{name}.{end}"
            for name in (
                "apiserver",
                "apiserver-etcd-client",
                "apiserver-kubelet-client",
                "front-proxy-client",
            )
            for end in ("crt", "key")
        ),
        *(
            f"/etc/kubernetes/apiserver/{name}.yaml"
            for name in ("audit-policy", "authentication", "encryption")
        ),
    }


def test_a_kubelet_on_a_host_is_restarted_for_its_files_and_their_files() -> None:
    own = {
        "/etc/kubernetes/kubelet.conf",
        "/etc/kubernetes/kubelet.env",
        "/var/lib/kubelet/config.yaml",
        f"{PKI}/ca.crt",
    }
    assert reads("kubelet.service", nodes=True) == own
    assert "/var/lib/kube-proxy/config.yaml" in reads("kube-proxy.service", nodes=True)
    assert reads("containerd.service", nodes=True) == {"/etc/firstlight/containerd.toml"}
    assert "/etc/firstlight/routes" in reads("firstlight-pod-network.service", nodes=True)


def test_everything_is_read_by_somebody_or_makes_users() -> None:
    tree = tree_of("lab", nodes=True)
    nobodys = [path for path in tree.files if not tree.units_touched_by(path)]

    assert nobodys == [
        "/etc/cni/net.d/10-firstlight.conflist",  # containerd looks by itself
        f"{UNITS}/etcd-snapshot.service",  # started anew each time by its timer
        "/etc/sysusers.d/firstlight.conf",
        "/opt/firstlight/bin/etcd-snapshot",
        "/opt/firstlight/bin/etcdctl",
    ]


def test_cni_plugins_and_images_beside_the_programs_come_to_a_host_that_is_a_node() -> None:
    names = ("bridge", "host-local", "loopback", "portmap", "pause.tar")
    more = {name: LocalFile(Path("/srv") / name, "f" * 64) for name in names}
    found = {}
    for nodes in (False, True):
        cluster = cluster_of("lab", nodes=nodes)
        given = {**programs(cluster, "m1"), **more}
        found[nodes] = host_tree(cluster, "m1", keyring_of("lab"), given, allotment(cluster))

    assert found[True].files["/opt/firstlight/cni/bridge"].mode == 0o755
    assert "/opt/firstlight/images/pause.tar" in found[True].files
    touched = [unit.name for unit in found[True].units_touched_by("/opt/firstlight/cni/bridge")]
    assert touched == ["containerd.service"]
    assert not [
        path for path in found[False].files if path.startswith(("/opt/firstlight/cni", "/opt/firstlight/im"))
    ]


def test_a_program_that_changes_restarts_its_unit() -> None:
    tree = tree_of("lab")

    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        file = tree.files[f"/opt/firstlight/bin/{name}"]
        assert isinstance(file.content, LocalFile)
        assert file.mode == 0o755
        assert [unit.name for unit in tree.units_touched_by(f"/opt/firstlight/bin/{name}")] == [
            f"{name}.service"
        ]


def test_programs_that_are_missing_are_named() -> None:
    cluster = cluster_of("lab")
    some = {"etcd": LocalFile(Path("/x"), "0" * 64)}

    with pytest.raises(
        RenderError, match="etcdctl, kube-apiserver, kube-controller-manager, kube-scheduler are"
    ):
        host_tree(cluster, "m1", keyring_of("lab"), some, {})
    assert wanted_binaries(cluster, "m1")[0] == "etcd"


def test_what_is_missing_among_keys_and_subnets_is_named() -> None:
    cluster = cluster_of("lab", nodes=True)

    keyring = keyring_of("lab")
    some = {name: pem for name, pem in keyring.certificates.items() if name != "apiserver"}
    public = PublicKeyring(some, keyring.public.public_keys)
    with pytest.raises(RenderError, match="there is no apiserver among the keys"):
        host_tree(cluster, "m1", replace(keyring, public=public), programs(cluster, "m1"), allotment(cluster))
    with pytest.raises(RenderError, match="m1"):
        host_tree(cluster, "m1", keyring_of("lab"), programs(cluster, "m1"), {})
    with pytest.raises(RenderError, match="no control-plane host 'm9'"):
        planes.tree_of("lab", "m9")


def test_a_low_port_needs_its_one_capability() -> None:
    low = cluster_of("lab")
    kubernetes = low.kubernetes.model_copy(update={"control_plane_endpoint": "10.77.0.10:443"})
    low = low.model_copy(update={"kubernetes": kubernetes})
    tree = host_tree(low, "m1", keyring_of("lab"), programs(low, "m1"), allotment(low))

    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in text_of(tree, f"{UNITS}/kube-apiserver.service")
    assert "AmbientCapabilities=\n" in text_of(tree, f"{UNITS}/etcd.service")
    assert "AmbientCapabilities=\n" in text_of(tree_of("lab"), f"{UNITS}/kube-apiserver.service")


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_is_let_in_without_a_name_but_to_ask_for_health(version: str) -> None:
    tree = tree_of("lab", version=version)
    flags = flags_of(tree, "kube-apiserver")

    assert flags["authorization-mode"] == "Node,RBAC"
    assert not {"basic-auth-file", "token-auth-file"} & set(flags)
    if "authentication-config" in flags:
        text = text_of(tree, flags["authentication-config"])
        assert [word for word in ("/livez", "/readyz", "/healthz") if f'"{word}"' in text] == [
            "/livez",
            "/readyz",
            "/healthz",
        ]
        assert "anonymous-auth" not in flags
    else:
        assert flags["anonymous-auth"] == "false"
        assert flags["insecure-port"] == "0"


def test_only_flannel_has_its_subnets_from_the_controllers() -> None:
    assert flags_of(tree_of("lab"), "kube-controller-manager")["allocate-node-cidrs"] == "false"
    flags = flags_of(tree_of("example"), "kube-controller-manager")
    assert (flags["allocate-node-cidrs"], flags["cluster-cidr"], flags["node-cidr-mask-size"]) == (
        "true",
        "10.2.0.0/16",
        "24",
    )


def test_certificates_of_kubelets_live_a_week_and_nothing_else_is_signed() -> None:
    flags = flags_of(tree_of("lab"), "kube-controller-manager")
    signing = {name for name in flags if name.startswith("cluster-signing")}

    assert flags["cluster-signing-duration"] == f"{7 * 86400}s"
    assert flags["use-service-account-credentials"] == "true"
    assert flags["controllers"] == "*,-csrapproving"
    assert signing == {
        "cluster-signing-duration",
        *(
            f"cluster-signing-kubelet-{kind}-{end}-file"
            for kind in ("client", "serving")
            for end in ("cert", "key")
        ),
    }
