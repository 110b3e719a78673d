"""Configurations of any number of machines, and the clusters they describe."""

from pathlib import Path

from bootstrap.config import load
from bootstrap.model import Cluster

_HEAD = """\
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {{name: rack{count}}}
kubernetes:
  version: v1.36.4
  controlPlaneEndpoint: 10.64.0.10:6443
  podSubnet: 10.128.0.0/10
  serviceSubnet: 10.192.0.0/16
controlPlane:
  hosts:
    - name: m1
      address: 10.64.0.10
      user: core
      hostKey: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFMyqcGg6k2cCIlLBepzQmmz4y6U9PNjc1KuZCobmMgK
etcd: {{members: [m1]}}
appliance:
  interface: eth0
  address: 10.64.0.20/16
  dhcp: {{mode: server, range: [10.64.200.1, 10.64.250.250]}}
pools:
  - name: workers
    os: {{family: debian, release: "13", kernel: cloud}}
    disk: {{select: {{type: virtio}}}}
ssh:
  authorizedKeys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINm0YdFgnNwDvXUBXI1l0ZcJYPbc8yZptgWSoSgiNedN operator@example.net
machines:
"""
_MACHINE = """\
  - name: w{number:05d}
    mac: {mac}
    pool: {pool}
    address: 10.64.{third}.{fourth}
"""
PER_THIRD = 250  # host numbers 1 to 250 of each 10.64.x.0


def mac_of(number: int) -> str:
    """Return the MAC address of the machine with this number."""
    return f"52:54:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def config_of(count: int) -> str:
    """Return config.yaml of a rack of `count` machines, as people write one."""
    return _HEAD.format(count=count) + "".join(machine_of(number) for number in range(count))


def machine_of(number: int, pool: str = "workers") -> str:
    """Return the lines of one machine."""
    third, fourth = divmod(number, PER_THIRD)
    return _MACHINE.format(number=number, mac=mac_of(number), pool=pool, third=third + 1, fourth=fourth + 1)


def write_config(folder: Path, count: int) -> Path:
    """Write the configuration of a rack into `folder` and return its file."""
    file = folder / f"rack{count}.yaml"
    file.write_text(config_of(count))
    return file


def cluster_of(folder: Path, count: int) -> Cluster:
    """Return a rack as the program reads it."""
    return load([write_config(folder, count)])
