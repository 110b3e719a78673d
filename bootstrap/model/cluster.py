"""The whole cluster, as one value."""

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal, Self

from pydantic import Field

from bootstrap.model.addons import Addon
from bootstrap.model.appliance import Appliance
from bootstrap.model.base import Model
from bootstrap.model.images import Images
from bootstrap.model.kubernetes import ControlPlane, Etcd, Kubernetes, Metadata, Ssh
from bootstrap.model.lab import Lab
from bootstrap.model.machine import Machine
from bootstrap.model.mirror import Mirror
from bootstrap.model.pool import BootFromDisk, Disk, MachineTftp, Pool


class Cluster(Model):
    """A firstlight configuration: everything about one cluster."""

    api_version: Literal["firstlight/v1alpha1"]
    """The version of this format."""
    kind: Literal["Cluster"]
    """Always Cluster."""
    metadata: Metadata
    """What the cluster is called."""
    kubernetes: Kubernetes
    """What Kubernetes is to be, in kubeadm's words."""
    control_plane: ControlPlane = ControlPlane()
    """The hosts that run the Kubernetes control plane."""
    etcd: Etcd = Etcd()
    """The database of Kubernetes."""
    appliance: Appliance
    """The computer that answers the machines' network boot."""
    pools: tuple[Pool, ...] = Field(min_length=1)
    """Kinds of machines."""
    machines: tuple[Machine, ...] = ()
    """The machines that are known already."""
    ssh: Ssh = Ssh()
    """Who may log in to installed machines."""
    addons: tuple[Addon, ...] = ()
    """What is applied to the cluster after it stands: a name, or a name with its options."""
    images: Images = Images()
    """Operating system images that are built here."""
    mirror: Mirror = Mirror()
    """What `mirror pull` fetches, and from where."""
    lab: Lab | None = None
    """The virtual rack on this computer, if there is one."""

    @cached_property
    def base_url(self) -> str:
        """Return where machines fetch boot files: http, nothing secret."""
        return f"http://{self.appliance.address.ip}:{self.appliance.http_port}"

    @cached_property
    def secure_url(self) -> str:
        """Return where machines do everything after that: https with the provisioning certificate."""
        return f"https://{self.appliance.address.ip}:{self.appliance.https_port}"

    @property
    def networks(self) -> tuple[IPv4Network, ...]:
        """Return the networks where machines are: the appliance's own, then those behind relays."""
        return (self.appliance.address.network, *(one.subnet for one in self.appliance.dhcp.subnets))

    def is_local(self, address: IPv4Address) -> bool:
        """Return whether `address` is in one of the machines' networks."""
        return any(address in network for network in self.networks)

    def route_of(self, address: IPv4Address) -> tuple[int, IPv4Address | None]:
        """Return the prefix length and the router of the network that holds `address`.

        One that is in none of ours is taken to be in the appliance's own.
        """
        for one in self.appliance.dhcp.subnets:
            if address in one.subnet:
                return one.subnet.prefixlen, one.gateway
        return self.appliance.address.network.prefixlen, self.appliance.gateway

    @cached_property
    def _pools(self) -> dict[str, Pool]:
        return {pool.name: pool for pool in self.pools}

    @cached_property
    def _machines_by_mac(self) -> dict[str, Machine]:
        return {machine.mac: machine for machine in self.machines}

    @cached_property
    def _machines_by_name(self) -> dict[str, Machine]:
        return {machine.name: machine for machine in self.machines}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy of which nothing is known by heart that was true of this one."""
        made = super().model_copy(update=update, deep=deep)
        for name in [name for name in made.__dict__ if name not in type(self).model_fields]:
            del made.__dict__[name]
        return made

    def pool(self, name: str) -> Pool:
        """Return the pool called `name`.

        Raises:
            KeyError: there is none; a checked configuration never asks for one.
        """
        return self._pools[name]

    def machine(self, name: str) -> Machine | None:
        """Return the listed machine called `name`, or None."""
        return self._machines_by_name.get(name)

    def machine_by_mac(self, mac: str) -> Machine | None:
        """Return the listed machine with `mac` (lower case, colons), or None."""
        return self._machines_by_mac.get(mac)

    def disk_of(self, machine: Machine) -> Disk:
        """Return the disk rule of `machine`: its own, else its pool's."""
        return machine.disk or self.pool(machine.pool).disk

    def boot_from_disk_method_of(self, machine: Machine) -> BootFromDisk:
        """Return how `machine` goes on from its network boot to its disk: its own way, else its pool's."""
        return machine.boot_from_disk_method or self.pool(machine.pool).boot_from_disk_method

    def tftp_of(self, machine: Machine) -> MachineTftp | None:
        """Return how TFTP is to be spoken with `machine`: its own way, else its pool's, else None."""
        return machine.tftp or self.pool(machine.pool).tftp
