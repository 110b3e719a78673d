"""The rack's switch and cables: one network namespace with a bridge, a tap per machine, and nothing else."""

import contextlib
import hashlib
import os
import signal
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from pyroute2 import NetNS
from pyroute2.netlink.exceptions import NetlinkError

from bootstrap.environment import ROOT
from bootstrap.errors import LabError

NAMESPACES = Path("/run/netns")
IP_SECONDS = 30.0

LONGEST_ALIAS = 255
"""Bytes of an interface's alias (IFALIASZ less its NUL)."""

QUIET = (
    # A fresh namespace takes over these from the computer if net.core.devconf_inherit_init_net says so.
    ("ipv4/ip_forward", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
)


@dataclass(frozen=True, kw_only=True)
class Network:
    """The private network of one rack; `owner` is the work folder, which tells our namespace from others."""

    namespace: str
    bridge: str
    address: IPv4Interface
    owner: Path

    @property
    def file(self) -> Path:
        """Return the file under /run/netns that keeps the namespace alive."""
        return NAMESPACES / self.namespace

    @property
    def alias(self) -> str:
        """Return what the bridge carries to say whose it is."""
        return str(self.owner)[-LONGEST_ALIAS:]

    @property
    def bridge_mac(self) -> str:
        """Return a fixed, locally administered MAC address; else a bridge changes it with its ports."""
        digest = hashlib.sha256(self.namespace.encode()).digest()
        return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def in_namespace(namespace: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs `argv` inside `namespace`."""
    return ("ip", "netns", "exec", namespace, *argv)


def build(network: Network, taps: Sequence[str], inner: Collection[IPv4Address] = ()) -> None:
    """Make the namespace, the bridge, exactly `taps` and the addresses `inner`; what is right already stays as it is.

    `inner` are on the loopback of the namespace: nobody outside of it reaches them.

    Raises:
        LabError: the namespace belongs to another work folder, or the kernel refused.
    """
    check_owner(network)
    if not is_namespace(network.file):
        network.file.unlink(missing_ok=True)
        _ip("netns", "add", network.namespace)
    try:
        _quieten(network.namespace)
        with _kernel_of(network) as kernel:
            _build_bridge(kernel, network)
            _build_taps(kernel, network, taps)
            _set_inner(kernel, inner)
    except (NetlinkError, OSError) as error:
        raise LabError(f"could not build network {network.namespace}: {error}") from error


def is_namespace(file: Path) -> bool:
    """Return whether `file` holds a network namespace; an interrupted start leaves it plain."""
    try:
        return file.stat().st_dev != NAMESPACES.stat().st_dev
    except FileNotFoundError:
        return False


def check_owner(network: Network) -> None:
    """Do nothing if the namespace is ours, half made or absent.

    Raises:
        LabError: it is the rack of another work folder.
    """
    owner = owner_of(network)
    if owner is None or owner == network.alias:
        return
    whose = owner or "an unknown folder"
    raise LabError(
        f"network namespace {network.namespace} is the rack of another run, in {whose}\n"
        f"take it down there with `down`, or remove it: ip netns del {network.namespace}"
    )


def owner_of(network: Network) -> str | None:
    """Return the folder that the namespace's bridge names; None if there is no namespace or no bridge yet."""
    if not is_namespace(network.file):
        return None
    with _kernel_of(network) as kernel:
        bridges = [link for link in kernel.get_links() if _kind(link) == "bridge"]
    return str(bridges[0].get("ifalias") or "") if bridges else None


@contextlib.contextmanager
def _kernel_of(network: Network) -> Iterator[NetNS]:
    """Open the namespace's netlink socket, and let Ctrl-C and SIGTERM wait until it is closed again.

    pyroute2 works inside a namespace in forks of this process. A fork that hears Ctrl-C goes up this process's own
    stack, where it ends its process 0: the whole group, us included, while we take back what we have started.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with NetNS(network.namespace, flags=0) as kernel:
            yield kernel
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _kind(link: object) -> str | None:
    nested = link.get_nested("linkinfo", "kind")  # type: ignore[attr-defined]  # pyroute2 has no types
    return None if nested is None else str(nested)


def _quieten(namespace: str) -> None:
    """Forward nothing between networks, and leave IPv6 off: no router would ever answer it."""
    for key, value in QUIET:
        script = f"test ! -e /proc/sys/net/{key} || echo {value} > /proc/sys/net/{key}"
        run(in_namespace(namespace, ("sh", "-c", script)))


def _build_bridge(kernel: NetNS, network: Network) -> None:
    kernel.link("set", index=_index(kernel, "lo"), state="up")
    if _index(kernel, network.bridge) is None:
        # The alias comes in the same message: a bridge without an owner never exists.
        kernel.link(
            "add",
            ifname=network.bridge,
            kind="bridge",
            ifalias=network.alias,
            address=network.bridge_mac,
            br_stp_state=0,
            br_forward_delay=0,
            br_mcast_snooping=0,
        )
    bridge = _index(kernel, network.bridge)
    kernel.link("set", index=bridge, state="up", ifalias=network.alias)
    _set_address(kernel, bridge, network.address)


def _set_address(kernel: NetNS, bridge: int | None, wanted: IPv4Interface) -> None:
    found = {
        f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
        for address in kernel.get_addr(index=bridge, family=2)
    }
    for text in sorted(found - {str(wanted)}):
        address, _, prefix = text.partition("/")
        kernel.addr("del", index=bridge, address=address, prefixlen=int(prefix))
    if str(wanted) not in found:
        broadcast = str(wanted.network.broadcast_address)
        prefix_length = wanted.network.prefixlen
        kernel.addr("add", index=bridge, address=str(wanted.ip), prefixlen=prefix_length, broadcast=broadcast)


def _set_inner(kernel: NetNS, wanted: Collection[IPv4Address]) -> None:
    """Give the loopback exactly the addresses `wanted`, beside those of 127.0.0.0/8."""
    loopback = _index(kernel, "lo")
    texts = {str(address) for address in wanted if not address.is_loopback}
    for address in kernel.get_addr(index=loopback, family=2):
        text = str(address.get_attr("IFA_ADDRESS"))
        if text in texts:
            texts.remove(text)
        elif not IPv4Address(text).is_loopback:
            kernel.addr("del", index=loopback, address=text, prefixlen=address["prefixlen"])
    for text in sorted(texts):
        kernel.addr("add", index=loopback, address=text, prefixlen=32)


def _build_taps(kernel: NetNS, network: Network, taps: Sequence[str]) -> None:
    bridge = _index(kernel, network.bridge)
    present = {link.get("ifname") for link in kernel.get_links()}
    for name in sorted(str(name) for name in present if str(name).startswith("tap")):
        if name not in taps:
            kernel.link("del", index=_index(kernel, name))
    for name in taps:
        if name not in present:
            kernel.link("add", ifname=name, kind="tuntap", mode="tap")
        kernel.link("set", index=_index(kernel, name), master=bridge, state="up")


def _index(kernel: NetNS, name: str) -> int | None:
    return next(iter(kernel.link_lookup(ifname=name)), None)


def set_port(network: Network, port: str, *, up: bool) -> None:
    """Plug the cable at the bridge's `port` in or out: no packet passes while it is out.

    Raises:
        LabError: there is no such port, or the kernel refused.
    """
    try:
        with _kernel_of(network) as kernel:
            index = _index(kernel, port)
            if index is None:
                raise LabError(f"nothing is plugged into port {port} of {network.bridge}: is it switched on?")
            kernel.link("set", index=index, state="up" if up else "down")
    except (NetlinkError, OSError) as error:
        raise LabError(f"port {port} of {network.bridge} could not be switched: {error}") from error


def pids_in(network: Network) -> tuple[int, ...]:
    """Return the processes inside the namespace, but for ourselves and those that started us."""
    if not is_namespace(network.file):
        return ()
    wanted = network.file.stat()
    found = (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
    ours = _ancestry()
    return tuple(sorted(pid for pid in found if pid not in ours and _lives_in(pid, wanted)))


def _lives_in(pid: int, namespace: os.stat_result) -> bool:
    try:
        its = Path(f"/proc/{pid}/ns/net").stat()
    except OSError:
        return False
    return (its.st_dev, its.st_ino) == (namespace.st_dev, namespace.st_ino)


def _ancestry() -> tuple[int, ...]:
    chain = [os.getpid()]
    while chain[-1] > 1:
        status = Path(f"/proc/{chain[-1]}/stat").read_text().rpartition(")")[2].split()
        chain.append(int(status[1]))
    return tuple(chain)


def remove(network: Network) -> None:
    """Remove the namespace with all that is in it, and the mount that `ip netns` leaves behind."""
    if is_namespace(network.file):
        _ip("netns", "del", network.namespace)
    network.file.unlink(missing_ok=True)
    _remove_empty_mount()


def _remove_empty_mount() -> None:
    """Undo the mount of /run/netns over itself, which `ip netns add` makes, once nobody needs it."""
    if not NAMESPACES.is_dir() or any(NAMESPACES.iterdir()):
        return
    # Fails if it is no mount, or if somebody mounted a namespace there just now: both are fine.
    subprocess.run(("umount", str(NAMESPACES)), check=False, capture_output=True)
    with contextlib.suppress(OSError):
        NAMESPACES.rmdir()


def _ip(*arguments: str) -> None:
    run(("ip", *arguments))


def run(argv: Sequence[str]) -> None:
    """Run a command of iproute2's kind to its end, from the checkout.

    Raises:
        LabError: it is missing, failed or hangs.
    """
    try:
        subprocess.run(
            argv,
            cwd=ROOT,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=IP_SECONDS,
        )
    except FileNotFoundError as error:
        raise LabError(
            f"{argv[0]} is not installed; as root: apt-get install --no-install-recommends iproute2"
        ) from error
    except subprocess.CalledProcessError as error:
        raise LabError(f"{' '.join(argv)} failed: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)} took longer than {IP_SECONDS:.0f} s") from error
