"""The appliance: the computer that answers the machines' network boot."""

from typing import Literal

from pydantic import Field, StrictBool

from bootstrap.model.addresses import (
    Address,
    AddressInNetwork,
    AddressOrName,
    AddressPair,
    HttpsUrl,
    Network,
    Url,
)
from bootstrap.model.amounts import BlockSize, Duration
from bootstrap.model.base import Model
from bootstrap.model.kubernetes import Port
from bootstrap.model.types import Domain, FilePath, ImageName, Interface, Sha256


class Subnet(Model):
    """A further network with machines, behind a router that relays their DHCP to us."""

    subnet: Network
    """The network; its relay asks with an address of it (giaddr, RFC 2131)."""
    gateway: Address | None = None
    """The router that machines there get (mode server)."""
    range: AddressPair | None = None
    """First and last address for machines there without a reservation (mode server)."""


class Dhcp(Model):
    """Who gives out addresses on the private network."""

    mode: Literal["server", "proxy", "off"] = "server"
    """server: we do. proxy: another server does, we only add the boot answer. off: nobody is answered."""
    range: AddressPair | None = None
    """First and last address for machines without a reservation (mode server)."""
    lease_time: Duration = 3600
    """How long a machine may keep an address."""
    subnets: tuple[Subnet, ...] = ()
    """Further networks with machines, behind routers that relay DHCP."""
    upstream: tuple[Address, ...] = ()
    """The site's DHCP servers (mode proxy or off): any other one that answers is an alarm."""


class StateStore(Model):
    """The etcd that keeps the appliance's state (store: etcd)."""

    endpoints: tuple[HttpsUrl, ...] = Field(min_length=1)
    """Its client URLs."""
    ca_file: FilePath | None = None
    """The CA certificate to check it with."""
    cert_file: FilePath | None = None
    """The client certificate to show."""
    key_file: FilePath | None = None
    """The file with the key of that certificate."""


class Loader(Model):
    """An iPXE binary to use instead of Debian's."""

    path: FilePath | None = None
    """A file on this computer."""
    url: Url | None = None
    """Or where to fetch it."""
    sha256: Sha256
    """Its SHA-256 sum; a file that differs is refused."""


class Loaders(Model):
    """Loaders by the firmware that asks for them."""

    bios: Loader | None = None
    """For BIOS machines (undionly.kpxe)."""
    efi64: Loader | None = None
    """For 64-bit UEFI machines (snponly.efi)."""
    efi_arm64: Loader | None = None
    """For 64-bit ARM UEFI machines; Debian has none that is small enough for TFTP."""
    http_efi64: Loader | None = None
    """For 64-bit UEFI HTTP boot, if not the same as efi64."""
    http_arm64: Loader | None = None
    """For 64-bit ARM UEFI HTTP boot, if not the same as efiArm64."""


class Tftp(Model):
    """How the loaders are sent by TFTP: to every machine of which `tftp` says nothing else (docs/dhcp.md)."""

    max_block_size: BlockSize = 1368
    """Bytes of a block at most (RFC 2348); with 512 no block size is agreed on at all."""


class Pxe(Model):
    """What a machine's firmware gets."""

    loader: Loaders = Loaders()
    """iPXE binaries to use instead of Debian's."""
    tftp: Tftp = Tftp()
    """How they are sent by TFTP."""


class ContainerImages(Model):
    """The images of the two containers (engine: podman or docker)."""

    base: ImageName = "docker.io/library/debian:trixie-slim"
    """What both are built on, from Dockerfile.pxe and Dockerfile.web."""
    pxe: ImageName | None = None
    """An image of pxe to run as it is; without it, one is built."""
    web: ImageName | None = None
    """An image of web to run as it is; without it, one is built."""


class Appliance(Model):
    """The computer that answers the machines' network boot, as it stands on the private network."""

    interface: Interface
    """The network interface on the private network; the lab makes it."""
    address: AddressInNetwork
    """Our address there, with the prefix length of the network."""
    gateway: Address | None = None
    """The router that machines get; without it they have none."""
    dns: tuple[Address, ...] = ()
    """The name servers that machines get."""
    ntp: tuple[AddressOrName, ...] = ()
    """The time servers that machines get."""
    domain: Domain = "firstlight.internal"
    """The domain of the machines' host names."""
    dhcp: Dhcp = Dhcp()
    """Who gives out addresses."""
    http_port: Port = 8080
    """The port for boot files; nothing secret is there."""
    https_port: Port = 8443
    """The port for everything after that."""
    store: Literal["sqlite", "etcd"] = "sqlite"
    """Where the state of the machines is kept."""
    etcd: StateStore | None = None
    """The etcd of `store: etcd`."""
    engine: Literal["native", "podman", "docker"] = "native"
    """native: as processes of this computer. podman, docker: as two containers."""
    containers: ContainerImages = ContainerImages()
    """The images of these containers."""
    pxe: Pxe = Pxe()
    """What a machine's firmware gets."""
    discovery: StrictBool = True
    """Whether a machine that is not listed is looked at and waits to be accepted; false leaves it alone."""
