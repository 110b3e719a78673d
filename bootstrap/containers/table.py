"""What each of the two containers may see and do: the one table behind `--engine` and compose.yaml; pure.

Both have a read-only root, the computer's own network, and no more capabilities than their row names
(capabilities(7)). They share no file: each mounts a folder of its own, with copies of just the documents and keys
that it reads (bootstrap/containers/homes.py). No CA's key is among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Root = Literal["work", "cache"]
Name = Literal["pxe", "web"]

WEB_USER = 65532
"""The user and group of web: a number that Debian gives to nobody (Debian policy 9.2.2)."""
HOMES = "run"
"""Below the work folder: `run/pxe` and `run/web` hold what each container mounts."""
WORK, CACHE = "/work", "/cache"
"""What the containers call the work folder and the cache."""
KEPT_BY_PXE = ("leases", "tftp-learned")
"""What pxe writes into its `run` and needs again: who holds which address, and who takes no TFTP options."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One folder of this computer that a container sees: `path` below `root`, at `target`."""

    root: Root
    path: str
    target: str
    is_writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Container:
    """One row: `user` is None for root; `tmpfs` holds size limits by target; `stop_seconds` is its time to end."""

    name: Name
    mounts: tuple[Mount, ...]
    tmpfs: Mapping[str, str]
    capabilities: tuple[str, ...] = ()
    user: int | None = None
    processes: int = 4096
    stop_seconds: int = 8


def home(name: Name, *parts: str) -> str:
    """Return a folder below the work folder that belongs to one container."""
    return "/".join((HOMES, name, *parts))


def _own(name: Name) -> tuple[Mount, ...]:
    """Return the mounts that each container has, in a folder of its own."""
    return (
        Mount(root="work", path=home(name, "bundle"), target=f"{WORK}/bundle"),
        Mount(root="work", path=home(name, "pki"), target=f"{WORK}/pki"),
        Mount(root="work", path=home(name, "run"), target=f"{WORK}/run", is_writable=True),
    )


PXE = Container(
    name="pxe",
    mounts=_own("pxe"),
    tmpfs={"/run": "16m", "/tmp": "16m"},  # noqa: S108  # of the container
    capabilities=(
        "KILL",  # dnsmasq gives up root: root alone could not tell it to end
        "NET_ADMIN",  # dnsmasq answers machines that have no address yet, by an ARP entry
        "NET_BIND_SERVICE",  # ports 67 and 69
        "NET_RAW",  # the probe for another DHCP server
        "SETGID",  # dnsmasq gives up root
        "SETUID",
    ),
)

WEB = Container(
    name="web",
    mounts=(
        *_own("web"),
        Mount(root="work", path=home("web", "records"), target=f"{WORK}/records", is_writable=True),
        Mount(root="work", path="state", target=f"{WORK}/state", is_writable=True),
        Mount(root="work", path="log/web", target=f"{WORK}/log", is_writable=True),
        Mount(root="cache", path="images", target=f"{CACHE}/images"),
        Mount(root="cache", path="sha256", target=f"{CACHE}/sha256"),
    ),
    tmpfs={"/tmp": "64m"},  # noqa: S108  # of the container
    user=WEB_USER,
)

CONTAINERS: Mapping[Name, Container] = {"web": WEB, "pxe": PXE}
"""In the order of their start."""

PXE_DOCUMENTS = ("appliance/cluster.json", "appliance/provisioning-ca.crt", "pxe/dnsmasq.conf")
"""What pxe reads of the rendered documents; web gets all but those of pxe and of the control-plane hosts."""
NOT_FOR_WEB = ("hosts/", "pxe/")

KEYS: Mapping[Name, tuple[str, ...]] = {
    "pxe": ("provisioning/pxe.crt", "provisioning/pxe.key"),
    "web": (
        *("provisioning/server.crt", "provisioning/server.key"),
        *("ca.crt", "kubelet-ca.crt", "claims.crt", "claims.key", "status.crt", "status.key"),
        *("gate.crt", "gate.key"),
    ),
}
"""What each reads of pki/: leaf keys of its own, and certificates."""


def is_for(name: Name, path: str) -> bool:
    """Return whether a container reads the rendered document at `path`."""
    return path in PXE_DOCUMENTS if name == "pxe" else not path.startswith(NOT_FOR_WEB)
