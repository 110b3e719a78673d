"""Whether a host can be a control-plane host: its hardware, operating system, clock and room. Pure."""

from collections.abc import Mapping
from datetime import datetime

from bootstrap.apply.facts import Facts
from bootstrap.errors import HostError
from bootstrap.host_errors import AGAIN, DiskFull, Unsupported
from bootstrap.kubernetes.places import CNI, OWN_CNI_PLUGINS
from bootstrap.kubernetes.tree import HostTree

ARCHITECTURES = frozenset({"x86_64"})
SYSTEMS: Mapping[str, int] = {"debian": 247, "ubuntu": 245, "flatcar": 252, "fedora": 251}
"""`ID` of /etc/os-release -> the systemd of its oldest release that we take: Debian 11, Ubuntu 20.04, 2023's others."""
BEHIND_SECONDS = 45 * 60
"""Certificates are back-dated by an hour: on a clock that is further behind they are not valid yet."""
SPARE_BYTES = 16 * 1024 * 1024


NODE_TOOLS = ("containerd", "ctr", "runc", "iptables", "ip", "awk", "openssl")
"""What a node needs that is not ours to install, by the names of programs."""
PLUGINS = "cni-plugins"
INSTALL: Mapping[str, str] = {
    "debian": "`apt-get install containerd containernetworking-plugins iptables iproute2 mawk openssl` there",
    "ubuntu": "`apt-get install containerd containernetworking-plugins iptables iproute2 mawk openssl` there",
    "fedora": "`rpm-ostree install containerd containernetworking-plugins iptables-nft openssl` there and restart it",
    "flatcar": "use a release that has them",
}
PLUGINS_ADVICE = (
    "or have apply bring them: put bridge, host-local, loopback and portmap of the CNI plugins' release beside the "
    "programs of kubernetes.binaries, or name mirror.cniPlugins"
)


def unfit(facts: Facts, now: datetime, tree: HostTree | None = None) -> HostError | None:
    """Return why this host cannot be one of ours, with that tree, or None; `now` is our own time, in UTC."""
    name = facts.os.get("ID", "unknown")
    what = f"host {facts.name}: {facts.os.get('PRETTY_NAME', name)} on {facts.arch or 'unknown hardware'}"
    if facts.arch not in ARCHITECTURES:
        return Unsupported(facts.name, f"{what} is not supported; use one of: {', '.join(ARCHITECTURES)}")
    if name not in SYSTEMS:
        return Unsupported(facts.name, f"{what} is not supported; install one of: {', '.join(SYSTEMS)}")
    if facts.systemd < SYSTEMS[name]:
        return Unsupported(
            facts.name,
            f"{what} has systemd {facts.systemd or 'none'}, too old; install a release with {SYSTEMS[name]} or newer",
        )
    behind = now.timestamp() - facts.clock
    if behind > BEHIND_SECONDS:
        return Unsupported(
            facts.name,
            f"host {facts.name}: its clock is {behind / 60:.0f} minutes behind, certificates are not valid there yet; "
            f"set it (`timedatectl set-ntp true`), {AGAIN}",
        )
    return _no_node(facts, tree) if tree is not None and tree.is_node else None


def _no_node(facts: Facts, tree: HostTree) -> Unsupported | None:
    """Return what a host lacks that is to be a node too."""
    lacks = [name for name in NODE_TOOLS if name not in facts.tools]
    is_brought = any(path.startswith(f"{OWN_CNI_PLUGINS}/") for path in tree.files)
    if CNI in tree.files and not is_brought and PLUGINS not in facts.tools:
        lacks.append("the CNI plugins")
    if not lacks:
        return None
    advice = INSTALL.get(facts.os.get("ID", ""), "install them there")
    if "the CNI plugins" in lacks:
        advice = f"{advice}, {PLUGINS_ADVICE}"
    return Unsupported(
        facts.name,
        f"host {facts.name}: it is to be a node (node: true) and lacks {', '.join(lacks)}; {advice}, {AGAIN}",
    )


def no_room(facts: Facts, sizes: Mapping[str, int]) -> DiskFull | None:
    """Return which file system cannot take new files of `sizes` (bytes by path), or None; old ones stay meanwhile."""
    wanted: dict[str, int] = {}
    for path, size in sizes.items():
        folder = max((each for each in facts.space if path.startswith(f"{each}/")), key=len, default="")
        if folder:
            wanted[folder] = wanted.get(folder, 0) + size
    for folder, needed in _by_device(facts, wanted).items():
        free = facts.space[folder].free
        if needed + SPARE_BYTES > free:
            return DiskFull(
                facts.name,
                f"host {facts.name}: no room for {_mib(needed)} MiB below {folder} ({_mib(free)} MiB free, "
                f"{_mib(SPARE_BYTES)} kept); make room there, {AGAIN}",
            )
    return None


def _by_device(facts: Facts, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return bytes by the first folder of each file system."""
    first: dict[str, str] = {}
    total: dict[str, int] = {}
    for folder, size in sorted(wanted.items()):
        name = first.setdefault(facts.space[folder].device, folder)
        total[name] = total.get(name, 0) + size
    return total


def _mib(size: int) -> int:
    return -(-size // (1024 * 1024))
