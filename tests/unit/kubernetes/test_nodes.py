"""What a node runs with: kubelet, kube-proxy, containerd, the network of its pods; all of it public."""

import json
import tomllib
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from bootstrap import families, rooms
from bootstrap.config import parse_dump
from bootstrap.errors import RenderError
from bootstrap.kubernetes import pod_network, runtimes
from bootstrap.kubernetes.nodes import family_of, hosts_text, node_documents, restarts
from bootstrap.kubernetes.pod_network import PodNetwork, laid_out
from bootstrap.kubernetes.releases import RELEASES
from bootstrap.kubernetes.subnets import allotment
from bootstrap.kubernetes.tree import HostFile
from bootstrap.model import Cluster
from tests import samples

CA = b"-----BEGIN CERTIFICATE-----\n"
KUBELET, PROXY = "/var/lib/kubelet/config.yaml", "/var/lib/kube-proxy/config.yaml"
ENVIRONMENT, CNI = "/etc/kubernetes/kubelet.env", "/etc/cni/net.d/10-firstlight.conflist"
CONTAINERD = "/etc/containerd/config.toml"
VERSIONS = [f"v1.{minor}.1" for minor in RELEASES]

# kubelet reads its file strictly: these are the fields of kubelet.config.k8s.io/v1beta1 since v1.20.
OLD_FIELDS = {
    "apiVersion",
    "kind",
    "authentication",
    "authorization",
    "cgroupDriver",
    "clusterDNS",
    "clusterDomain",
    "healthzBindAddress",
    "healthzPort",
    "protectKernelDefaults",
    "readOnlyPort",
    "resolvConf",
    "rotateCertificates",
    "serverTLSBootstrap",
    "tlsMinVersion",
}
NEW_FIELDS = {
    "containerRuntimeEndpoint",
    "registerWithTaints",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
}


def changed(name: str, **kubernetes: Any) -> Cluster:
    tree = samples.cluster(name).model_dump(mode="json", by_alias=True, exclude_none=True)
    tree["kubernetes"] |= kubernetes
    return parse_dump(samples.json_of(tree))


def documents(cluster: Cluster, name: str) -> dict[str, HostFile]:
    machine = cluster.machine(name)
    assert machine is not None
    return node_documents(cluster, machine, CA, laid_out(cluster, allotment(cluster)))


def text(files: dict[str, HostFile], path: str) -> str:
    content = files[path].content
    assert isinstance(content, bytes)
    return content.decode()


def tree(files: dict[str, HostFile], path: str) -> Any:
    return json.loads(text(files, path))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_kubelet_s_file_has_only_fields_of_its_minor(version: str) -> None:
    found = set(tree(documents(changed("example", version=version), "w1"), KUBELET))

    assert found == (OLD_FIELDS if version == "v1.20.1" else OLD_FIELDS | NEW_FIELDS)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_kubelet_lets_in_whom_the_api_server_knows_and_asks_for_its_certificates(version: str) -> None:
    found = tree(documents(changed("lab", version=version), "w1"), KUBELET)

    assert found["authentication"]["anonymous"] == {"enabled": False}
    assert found["authentication"]["webhook"] == {"enabled": True}
    assert found["authentication"]["x509"] == {"clientCAFile": "/etc/kubernetes/pki/ca.crt"}
    assert found["authorization"] == {"mode": "Webhook"}
    assert found["rotateCertificates"] is found["serverTLSBootstrap"] is True
    assert found["readOnlyPort"] == 0
    assert found["protectKernelDefaults"] is True


def test_pods_find_names_at_the_tenth_service() -> None:
    assert tree(documents(samples.cluster("ha"), "g1"), KUBELET)["clusterDNS"] == ["10.8.0.10"]


def test_labels_are_flags_and_taints_are_where_the_minor_wants_them() -> None:
    new, old = (documents(changed("ha", version=version), "g1") for version in ("v1.36.4", "v1.20.2"))

    assert (
        " --node-labels=accelerator=h100,firstlight/gpu=nvidia,topology.kubernetes.io/zone=rack2\n"
        in text(new, ENVIRONMENT)
    )
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    unverified = {"key": "firstlight/gpu-unverified", "value": "", "effect": "NoSchedule"}
    assert tree(new, KUBELET)["registerWithTaints"] == [taint, unverified]
    assert "register-with-taints" not in text(new, ENVIRONMENT)
    assert "registerWithTaints" not in tree(old, KUBELET)
    assert (
        "--register-with-taints=nvidia.com/gpu=present:NoSchedule,firstlight/gpu-unverified:NoSchedule"
        in text(old, ENVIRONMENT)
    )


def test_a_kubelet_is_told_its_name_and_its_address_if_it_has_one() -> None:
    files = documents(samples.cluster("lab"), "w1")
    assert "--hostname-override=w1 --node-ip=10.77.0.101" in text(files, ENVIRONMENT)
    assert "--node-ip" not in text(documents(samples.cluster("ha"), "c1"), ENVIRONMENT)


def test_only_the_old_minor_is_told_of_containerd_by_flags() -> None:
    old, new = (text(documents(changed("lab", version=v), "w1"), ENVIRONMENT) for v in ("v1.20.2", "v1.32.0"))

    assert "--container-runtime=remote" in old
    assert "container-runtime" not in new


def test_a_node_s_certificate_is_one_file_for_kubelet_and_kube_proxy() -> None:
    files = documents(samples.cluster("ha"), "g1")
    conf = tree(files, "/etc/kubernetes/kubelet.conf")
    pem = "/var/lib/kubelet/pki/kubelet-client-current.pem"

    assert conf["users"][0]["user"] == {"client-certificate": pem, "client-key": pem}
    assert conf["clusters"][0]["cluster"]["server"] == "https://k8s.example.net:6443"
    assert tree(files, PROXY)["clientConnection"] == {"kubeconfig": "/etc/kubernetes/kubelet.conf"}
    assert tree(files, PROXY)["mode"] == "iptables"
    assert tree(files, PROXY)["clusterCIDR"] == "10.4.0.0/14"
    assert "conntrack" not in tree(files, PROXY)


def test_a_name_of_the_endpoint_stands_for_every_host() -> None:
    lines = hosts_text(samples.cluster("ha"), "g1").decode().splitlines()

    assert [line for line in lines if line.endswith(" k8s.example.net")] == [
        f"172.16.0.{n} k8s.example.net" for n in (11, 12, 13)
    ]
    assert "127.0.1.1 g1.rack2.example.net g1" in lines
    assert "172.16.0.12 m2" in lines


def test_an_address_of_the_endpoint_needs_no_name() -> None:
    assert hosts_text(samples.cluster("lab"), "w1").decode().splitlines() == [
        "127.0.0.1 localhost",
        "127.0.1.1 w1.firstlight.internal w1",
        "::1 localhost",
        "10.77.0.10 m1",
    ]


@pytest.mark.parametrize("family", rooms.names(families))
def test_containerd_of_every_family_uses_the_same_cgroups_and_finds_its_plugins(family: str) -> None:
    tree_ = samples.cluster("lab").model_dump(mode="json", by_alias=True, exclude_none=True)
    tree_["pools"][0]["os"] = {"family": family, "release": "1"}
    cluster = parse_dump(samples.json_of(tree_))
    found = tomllib.loads(text(documents(cluster, "w1"), CONTAINERD))
    cri = found["plugins"]["io.containerd.grpc.v1.cri"]

    assert found["version"] == 2
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}
    plugins = {"debian": "/usr/lib/cni", "flatcar": "/opt/cni/bin", "fedora-coreos": "/opt/cni/bin"}
    assert cri["cni"] == {"bin_dir": plugins[family], "conf_dir": "/etc/cni/net.d"}
    assert cri["sandbox_image"] == "localhost/pause:1"


def test_the_sandbox_image_can_be_named() -> None:
    files = documents(changed("lab", sandboxImage="registry.example.net/pause:3.10"), "w1")
    cri = tomllib.loads(text(files, CONTAINERD))["plugins"]["io.containerd.grpc.v1.cri"]

    assert cri["sandbox_image"] == "registry.example.net/pause:3.10"


def test_each_node_has_a_bridge_with_its_own_subnet() -> None:
    cluster = samples.cluster("lab")
    found = [tree(documents(cluster, name), CNI) for name in ("w1", "w2")]
    subnets = [each["plugins"][0]["ipam"]["ranges"][0][0]["subnet"] for each in found]

    assert subnets == ["10.2.0.0/24", "10.2.1.0/24"]
    assert [each["plugins"][0]["ipMasq"] for each in found] == [False, False]
    assert [plugin["type"] for plugin in found[0]["plugins"]] == ["bridge", "portmap"]


def test_the_routes_are_one_text_for_all_nodes() -> None:
    cluster = samples.cluster("lab")
    one, other = (documents(cluster, name)["/etc/firstlight/routes"] for name in ("w1", "w2"))

    assert one == other
    assert one.content == b"pods 10.2.0.0/16\nroute 10.2.0.0/24 10.77.0.101\nroute 10.2.1.0/24 10.77.0.102\n"


def test_routes_follow_the_numbers_and_skip_who_has_no_address() -> None:
    cluster = changed("ha", cni={"plugin": "bridge"})
    network = laid_out(cluster, {"g1": 7, "g2": 3, "c1": 0, "s1": 1, "gone": 2})
    lines = network.routes.decode().splitlines()

    assert lines == ["pods 10.4.0.0/14", "route 10.4.3.0/24 172.16.1.2", "route 10.4.7.0/24 172.16.1.1"]
    for line in lines[1:]:
        _, subnet, address = line.split()
        assert ip_network(subnet).subnet_of(cluster.kubernetes.pod_subnet)  # type: ignore[arg-type]
        assert ip_address(address)


@pytest.mark.parametrize("plugin", ["flannel", "cilium", "none"])
def test_pods_that_others_route_have_nothing_of_ours(plugin: str) -> None:
    cluster = changed("lab", cni={"plugin": plugin})
    files = documents(cluster, "w1")

    assert laid_out(cluster, {"w1": 0}) == PodNetwork({"w1": 0}, b"")
    assert not [path for path in files if "cni" in path or "pod-network" in path or "routes" in path]


def test_a_node_without_a_subnet_is_our_bug() -> None:
    cluster = samples.cluster("lab")

    with pytest.raises(RenderError, match="w1 has no pod subnet"):
        node_documents(cluster, cluster.machines[0], CA, laid_out(cluster, {"w2": 0}))


@pytest.mark.parametrize("name", samples.NAMES)
def test_every_document_is_public_and_sorted(name: str) -> None:
    cluster = samples.cluster(name)
    for machine in cluster.machines:
        files = documents(cluster, machine.name)
        assert list(files) == sorted(files)
        assert all(isinstance(file.content, bytes) for file in files.values())
        assert all(file.mode == (0o755 if "/bin/" in path else 0o644) for path, file in files.items())


def test_kernel_settings_come_before_containerd_and_containerd_before_kubelet() -> None:
    cluster = samples.cluster("lab")
    files = documents(cluster, "w1")
    found = restarts(files, family_of(cluster, cluster.machines[0]))
    order = list(dict.fromkeys(unit for units in found.values() for unit in units))

    assert order == [
        "systemd-modules-load.service",
        "systemd-sysctl.service",
        "firstlight-pod-network.service",
        "firstlight-pod-network.timer",
        "containerd.service",
        "kubelet.service",
        "kube-proxy.service",
    ]
    assert set(files) - set(found) == {CNI, pod_network.WANTED, "/etc/hosts"}


def test_flatcar_s_containerd_is_told_where_its_file_is() -> None:
    cluster = samples.cluster("ha")
    machine = cluster.machine("g1")
    assert machine is not None
    files = documents(cluster, "g1")
    path = "/etc/systemd/system/containerd.service.d/90-firstlight.conf"
    theirs = "10-nvidia.conf"  # of the extension with NVIDIA's runtime, whose file has nothing of ours in it

    assert "CONTAINERD_CONFIG=/etc/containerd/config.toml" in text(files, path)
    assert theirs < path.rpartition("/")[2]
    taken_back, started = [line for line in text(files, path).splitlines() if line.startswith("ExecStart=")]
    assert taken_back == "ExecStart="
    assert started.endswith("exec containerd --config /etc/containerd/config.toml'")
    assert restarts(files, family_of(cluster, machine))[path] == ("containerd.service", "kubelet.service")


NVIDIA = "/etc/containerd/conf.d/50-firstlight-nvidia.toml"


def test_a_node_with_a_driver_gets_nvidia_s_runtime_beside_everything_else() -> None:
    """containerd 1.x takes the CRI's section of the later file in place of the former, so it must be whole."""
    cluster = samples.cluster("ha")
    files = documents(cluster, "g1")
    plain, more = (tomllib.loads(text(files, path))["plugins"] for path in (CONTAINERD, NVIDIA))
    (section,) = more.values()
    nvidia = section["containerd"]["runtimes"].pop("nvidia")

    assert nvidia == {
        "runtime_type": "io.containerd.runc.v2",
        "options": {"BinaryName": "/usr/bin/nvidia-container-runtime", "SystemdCgroup": True},
    }
    assert section.pop("enable_cdi")
    assert section.pop("cdi_spec_dirs") == ["/etc/cdi", "/var/run/cdi"]
    assert more == plain
    machine = cluster.machine("g1")
    assert machine is not None
    assert restarts(files, family_of(cluster, machine))[NVIDIA] == ("containerd.service", "kubelet.service")


@pytest.mark.parametrize(("sample", "name"), [("lab", "w1"), ("ha", "c1")])
def test_a_node_without_a_driver_does_not(sample: str, name: str) -> None:
    assert NVIDIA not in documents(samples.cluster(sample), name)


def test_pods_find_the_runtime_by_a_class_where_a_pool_has_a_driver() -> None:
    assert runtimes.objects(samples.cluster("lab")) == ()

    (found,) = runtimes.objects(samples.cluster("ha"))
    assert (found["kind"], found["metadata"]["name"], found["handler"]) == (
        "RuntimeClass",
        "nvidia",
        "nvidia",
    )
    assert found["apiVersion"] == "node.k8s.io/v1"
