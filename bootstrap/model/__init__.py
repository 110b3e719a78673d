"""WHAT A CLUSTER IS: frozen values, no I/O; a field's docstring is its documentation."""

from bootstrap.model.addons import AddonChoice
from bootstrap.model.appliance import Appliance, Dhcp, Subnet
from bootstrap.model.cluster import Cluster
from bootstrap.model.images import DebianImage, Images
from bootstrap.model.kubernetes import ControlPlane, Etcd, Host, Kubernetes, Metadata, Ssh
from bootstrap.model.lab import Lab, LabDisk, LabHost, LabMachine
from bootstrap.model.machine import Machine, Power
from bootstrap.model.mirror import Archive, Mirror
from bootstrap.model.pool import BootFromDisk, Disk, DiskSelect, Gpu, MachineTftp, Match, Os, Pool, Taint
from bootstrap.model.types import mac_from

__all__ = [
    "AddonChoice",
    "Appliance",
    "Archive",
    "BootFromDisk",
    "Cluster",
    "ControlPlane",
    "DebianImage",
    "Dhcp",
    "Disk",
    "DiskSelect",
    "Etcd",
    "Gpu",
    "Host",
    "Images",
    "Kubernetes",
    "Lab",
    "LabDisk",
    "LabHost",
    "LabMachine",
    "Machine",
    "MachineTftp",
    "Match",
    "Metadata",
    "Mirror",
    "Os",
    "Pool",
    "Power",
    "Ssh",
    "Subnet",
    "Taint",
    "mac_from",
]
