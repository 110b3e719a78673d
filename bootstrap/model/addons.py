"""What is applied to the cluster after it stands; one field per addon, so that each has its own options."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt

from bootstrap.model.addresses import Address, AddressOrName, AddressRange
from bootstrap.model.amounts import Size
from bootstrap.model.base import Model, parsed, shown, text_of
from bootstrap.model.types import FilePath, Name

_ABSOLUTE = re.compile(r"/[^\x00-\x1f\x7f]{0,4094}")
_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/=-]{0,127}")


def exported_path_from(value: object) -> str:
    """Return `value` if it is a path from the root of a server (RFC 7530 calls it a pathname).

    Raises:
        ValueError: it is no text, or does not begin with a slash.
    """
    path = text_of(value)
    if _ABSOLUTE.fullmatch(path):
        return path
    raise ValueError(f"{shown(path)} is no path of a server; write it from the root such as /nfsroot")


def mount_option_from(value: object) -> str:
    """Return `value` if it is one option of mount(8).

    Raises:
        ValueError: it is not; several stand in a list, without commas.
    """
    option = text_of(value)
    if _OPTION.fullmatch(option):
        return option
    raise ValueError(f"{shown(option)} is not one mount option; write each as an item such as nfsvers=4.1")


ExportedPath = Annotated[str, *parsed(exported_path_from, type="string", pattern=f"^{_ABSOLUTE.pattern}$")]
MountOption = Annotated[str, *parsed(mount_option_from, type="string", pattern=f"^{_OPTION.pattern}$")]


class Coredns(Model):
    """Name service inside the cluster."""

    replicas: Annotated[StrictInt, Field(ge=1, le=9)] = 2
    """How many copies run."""
    upstream: tuple[Address, ...] = Field(default=(), max_length=15)
    """Name servers to ask for names outside; without them, those of the node it runs on."""


class MetricsServer(Model):
    """Numbers for `kubectl top`."""


class Metallb(Model):
    """Addresses for services of type LoadBalancer."""

    addresses: tuple[AddressRange, ...] = Field(min_length=1)
    """Ranges such as 192.168.1.241-192.168.1.250, or networks, that nobody else uses."""


class NfsVolume(Model):
    """A volume whose folder is on the server already."""

    name: Name
    """The name of the PersistentVolume."""
    path: ExportedPath
    """Its path on the server."""
    size: Size
    """How large claims may take it to be; NFS itself keeps nobody to it."""
    read_only: StrictBool = False
    """Whether pods may only read."""


class NfsExport(Model):
    """The folder of volumes, exported by a control-plane host to the addresses of nodes."""

    host: Name
    """Which control-plane host; its address is the server."""
    root_squash: StrictBool = True
    """Whether root of a node is nobody there; without it, root of any node may do everything with all files."""


class NfsProvisioner(Model):
    """Volumes on an NFS server."""

    server: AddressOrName
    """The NFS server."""
    path: ExportedPath
    """The exported path."""
    storage_class: Name = "nfs"
    """The storage class to make."""
    default_class: StrictBool = True
    """Whether it is the default storage class."""
    dynamic: StrictBool = True
    """Whether each claim gets a folder of its own; without it there are only the volumes listed here."""
    on_delete: Literal["archive", "delete", "retain"] = "archive"
    """What becomes of the folder when its claim is deleted: renamed, erased, or left as it is."""
    fs_type: Literal["nfs", "nfs4"] = "nfs"
    """The type that mount(8) is told elsewhere; nfs4 is taken as nfs of version 4."""
    mount_options: tuple[MountOption, ...] = ()
    """Options of mount(8) for volumes, such as nfsvers=4.1 or hard."""
    volumes: tuple[NfsVolume, ...] = ()
    """Volumes whose folders are there already."""
    export: NfsExport | None = None
    """Has a control-plane host export `path`; without it, the server is somebody else's."""


class NvidiaDevicePlugin(Model):
    """Offers GPUs to pods as nvidia.com/gpu."""

    mig_strategy: Literal["none", "single", "mixed"] = "none"
    """How partitions of a GPU are offered."""
    replicas: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    """How many pods share a GPU."""


class DcgmExporter(Model):
    """Numbers about GPUs for Prometheus."""


class GpuFeatureDiscovery(Model):
    """Labels that say which GPUs a node has."""


class Ingress(Model):
    """HTTP and HTTPS from outside to services, by objects of the kind Ingress."""

    replicas: Annotated[StrictInt, Field(ge=1, le=9)] = 2
    """How many copies run."""
    default_class: StrictBool = True
    """Whether an Ingress that names no class is its own."""


class Manifests(Model):
    """Kubernetes documents of yours."""

    directory: FilePath
    """A folder of YAML files, applied in the order of their names."""


class AddonChoice(Model):
    """One addon: exactly one of these keys."""

    coredns: Coredns | None = None
    """Name service inside the cluster."""
    metrics_server: MetricsServer | None = Field(default=None, alias="metrics-server")
    """Numbers for `kubectl top`."""
    metallb: Metallb | None = None
    """Addresses for services of type LoadBalancer."""
    nfs_provisioner: NfsProvisioner | None = Field(default=None, alias="nfs-provisioner")
    """Volumes on an NFS server."""
    nvidia_device_plugin: NvidiaDevicePlugin | None = Field(default=None, alias="nvidia-device-plugin")
    """Offers GPUs to pods."""
    dcgm_exporter: DcgmExporter | None = Field(default=None, alias="dcgm-exporter")
    """Numbers about GPUs for Prometheus."""
    gpu_feature_discovery: GpuFeatureDiscovery | None = Field(default=None, alias="gpu-feature-discovery")
    """Labels that say which GPUs a node has."""
    ingress: Ingress | None = None
    """HTTP and HTTPS from outside to services."""
    manifests: Manifests | None = None
    """Kubernetes documents of yours."""

    @property
    def name(self) -> str:
        """Return the addon's name as config.yaml spells it."""
        return self._chosen()[0]

    @property
    def options(self) -> Model:
        """Return the addon's options."""
        return self._chosen()[1]

    def _chosen(self) -> tuple[str, Model]:
        for field, details in type(self).model_fields.items():
            options = getattr(self, field)
            if options is not None:
                return details.alias or field, options
        raise ValueError("an addon without a name")


def names() -> tuple[str, ...]:
    """Return the names of all addons, as config.yaml spells them."""
    return tuple(sorted(details.alias or field for field, details in AddonChoice.model_fields.items()))


def _spelled_out(value: Any) -> Any:
    """Return a plain name, or a name without options, as a mapping."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, dict) and len(value) == 1:
        return {name: {} if options is None else options for name, options in value.items()}
    if isinstance(value, AddonChoice):
        return value
    keys = ", ".join(map(str, value)) if isinstance(value, dict) and value else shown(value)
    raise ValueError(
        f"{keys} is not one addon; write one name per list item such as - metallb: {{addresses: [...]}}"
    )


Addon = Annotated[AddonChoice, BeforeValidator(_spelled_out)]
