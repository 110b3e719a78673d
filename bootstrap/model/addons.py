"""What is applied to the cluster after it stands; one field per addon, so that each has its own options."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt

from bootstrap.model.addresses import AddressOrName, AddressRange
from bootstrap.model.base import Model, shown
from bootstrap.model.types import FilePath, Name


class Coredns(Model):
    """Name service inside the cluster."""

    replicas: Annotated[StrictInt, Field(ge=1, le=9)] = 2
    """How many copies run."""


class MetricsServer(Model):
    """Numbers for `kubectl top`."""


class Metallb(Model):
    """Addresses for services of type LoadBalancer."""

    addresses: tuple[AddressRange, ...] = Field(min_length=1)
    """Ranges such as 192.168.1.241-192.168.1.250, or networks, that nobody else uses."""


class NfsProvisioner(Model):
    """Volumes on an NFS server."""

    server: AddressOrName
    """The NFS server."""
    path: FilePath
    """The exported path."""
    storage_class: Name = "nfs"
    """The storage class to make."""
    default_class: StrictBool = True
    """Whether it is the default storage class."""


class NvidiaDevicePlugin(Model):
    """Offers GPUs to pods as nvidia.com/gpu."""

    mig_strategy: Literal["none", "single", "mixed"] = "none"
    """How partitions of a GPU are offered."""
    replicas: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    """How many pods share a GPU."""


class DcgmExporter(Model):
    """Numbers about GPUs for Prometheus."""


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
