"""The Kubernetes part of a cluster: version, endpoint, networks, control-plane hosts, etcd members."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt

from bootstrap.model.addresses import Address, CertificateName, Endpoint, Network, Url
from bootstrap.model.amounts import Duration
from bootstrap.model.base import Model
from bootstrap.model.pool import Taint
from bootstrap.model.types import (
    Domain,
    FilePath,
    ImageName,
    KubernetesVersion,
    Mac,
    Name,
    Sha256,
    SshKey,
    User,
)

Port = Annotated[StrictInt, Field(ge=1, le=65535)]


class Cni(Model):
    """How pods reach each other."""

    plugin: Literal["bridge", "flannel", "cilium", "none"] = "bridge"
    """bridge (one host route per node), flannel, cilium, or none (you bring your own)."""


class Binaries(Model):
    """Where the Kubernetes release binaries come from; without it, from dl.k8s.io through `mirror pull`."""

    directory: FilePath | None = None
    """A folder on this computer that holds kube-apiserver, kubelet and the rest."""
    build: FilePath | None = None
    """A program that makes them: called with the cache's folder, it prints the folder that holds them."""
    mirror: Url | None = None
    """The base URL of a copy of dl.k8s.io."""
    sha256s: Mapping[str, Sha256] = Field(default_factory=dict, alias="sha256s")
    """File name to SHA-256 sum; a binary that differs is refused."""


class ApiServer(Model):
    """The Kubernetes API server."""

    cert_sans: tuple[CertificateName, ...] = Field(default=(), alias="certSANs")
    """More names and addresses that its certificate is good for."""


class Kubelet(Model):
    """The agent of Kubernetes on each node."""

    certificate_life: Duration = 7 * 86400
    """How long its certificates live; a machine that is retired or quarantined has access no longer than this."""


class Kubernetes(Model):
    """What Kubernetes is to be, in kubeadm's words."""

    version: KubernetesVersion
    """The release, with the patch number: v1.36.4."""
    control_plane_endpoint: Endpoint
    """Where clients reach the API: address or host name, and port."""
    pod_subnet: Network = IPv4Network("10.2.0.0/16")
    """Addresses of pods; every node gets a /24 of it."""
    service_subnet: Network = IPv4Network("10.3.0.0/16")
    """Addresses of services; its first one is the API inside the cluster."""
    dns_domain: Domain = "cluster.local"
    """The domain of services."""
    cni: Cni = Cni()
    """How pods reach each other."""
    binaries: Binaries = Binaries()
    """Where the Kubernetes release binaries come from."""
    api_server: ApiServer = ApiServer()
    """The Kubernetes API server."""
    kubelet: Kubelet = Kubelet()
    """The agent of Kubernetes on each node."""
    sandbox_image: ImageName | None = None
    """The image that holds a pod's namespaces; without it, what the node's containerd uses by itself."""

    @property
    def endpoint_host(self) -> str:
        """Return the host of the control-plane endpoint: an IPv4 address or a name."""
        return self.control_plane_endpoint.rpartition(":")[0]

    @property
    def endpoint_port(self) -> int:
        """Return the port of the control-plane endpoint."""
        return int(self.control_plane_endpoint.rpartition(":")[2])


class Host(Model):
    """A control-plane host: it stands already and is reached over SSH."""

    name: Name
    """Its host name."""
    address: Address
    """Its address on the private network."""
    user: User = "root"
    """Who to log in as; root, or a user that may sudo without a password."""
    port: Port = 22
    """The port of its SSH server."""
    host_key: SshKey | None = None
    """Its public SSH host key; without it the first contact asks you."""
    mac: Mac | None = None
    """The MAC address of its network card; with it, what `render` writes for a bare host sets its address."""
    node: StrictBool = False
    """Whether it also runs a kubelet, and so pods that bear its taints."""
    taints: tuple[Taint, ...] | None = None
    """Taints of its node; without it, node-role.kubernetes.io/control-plane:NoSchedule; [] lets every pod in."""


class ControlPlane(Model):
    """The hosts that run the Kubernetes control plane."""

    hosts: tuple[Host, ...] = ()
    """The control-plane hosts."""


class Etcd(Model):
    """The database of Kubernetes."""

    members: tuple[Name, ...] = ()
    """Names of the control-plane hosts that run etcd: 1, 3 or 5 of them."""


class Ssh(Model):
    """Who may log in to installed machines."""

    authorized_keys: tuple[SshKey, ...] = ()
    """Public keys; there is no password."""


class Metadata(Model):
    """What the cluster is called."""

    name: Name
    """The cluster's name; everything made for it lies in deploy/<name>/."""


__all__ = [
    "ApiServer",
    "Binaries",
    "Cni",
    "ControlPlane",
    "Etcd",
    "Host",
    "Kubelet",
    "Kubernetes",
    "Metadata",
    "Port",
    "Ssh",
]
