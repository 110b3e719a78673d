"""Addresses that must lie in, or out of, each other's networks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import chain, combinations, islice, product

from bootstrap.config.cross.view import View
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.model.addresses import address_from, endpoint_from, interface_from, network_from, range_from
from bootstrap.model.kubernetes import Kubernetes

POD: Path = ("kubernetes", "podSubnet")
SERVICE: Path = ("kubernetes", "serviceSubnet")
ENDPOINT: Path = ("kubernetes", "controlPlaneEndpoint")
APPLIANCE: Path = ("appliance", "address")
RANGE: Path = ("appliance", "dhcp", "range")
SUBNETS: Path = ("appliance", "dhcp", "subnets")
NODE_PREFIX = 24
"""Every node gets a /24 of the pod subnet (kube-controller-manager's --node-cidr-mask-size)."""
LARGEST_SERVICE, SMALLEST_SERVICE = 12, 28
"""kube-apiserver takes at most 20 bits for services; DNS wants the tenth address."""
FREE_TRIED = 4096
"""Addresses looked at for one to suggest."""

Pair = tuple[IPv4Address, IPv4Address]


@dataclass(frozen=True)
class Further:
    """One item of `appliance.dhcp.subnets`, as far as it can be read; `path` is that of the item."""

    path: Path
    network: IPv4Network
    gateway: IPv4Address | None
    range: Pair | None


@dataclass(frozen=True)
class Layout:
    """Who has which address, as far as it can be read."""

    view: View

    @cached_property
    def subnets(self) -> list[tuple[Path, IPv4Network]]:
        """The networks of pods and services, with their defaults, and the appliance's."""
        found = []
        for path, field in ((POD, "pod_subnet"), (SERVICE, "service_subnet")):
            default = Kubernetes.model_fields[field].default
            network = self.view.read(network_from, *path) if self.view.has(*path) else default
            found += [(path, network)] if network else []
        return found + ([(APPLIANCE, self.network)] if self.network else [])

    @cached_property
    def interface(self) -> IPv4Interface | None:
        """The appliance's address with its network."""
        return self.view.read(interface_from, *APPLIANCE)

    @property
    def network(self) -> IPv4Network | None:
        """The private network."""
        return self.interface.network if self.interface else None

    @cached_property
    def further(self) -> list[Further]:
        """The networks behind relays."""
        found = []
        for path in self.view.each(*SUBNETS):
            network = self.view.read(network_from, *path, "subnet")
            if network is not None:
                gateway = self.view.read(address_from, *path, "gateway")
                found.append(Further(path, network, gateway, self._pair(*path, "range")))
        return found

    def _pair(self, *path: str | int) -> Pair | None:
        first, last = (self.view.read(address_from, *path, end) for end in (0, 1))
        return (first, last) if first and last and first <= last else None

    @cached_property
    def dhcp(self) -> Pair | None:
        """The DHCP range, if it is one and not reversed."""
        return self._pair(*RANGE)

    @cached_property
    def ours(self) -> list[tuple[Path, IPv4Address]]:
        """The appliance and the gateway."""
        gateway = self.view.read(address_from, "appliance", "gateway")
        own = [(APPLIANCE, self.interface.ip)] if self.interface else []
        return own + ([(("appliance", "gateway"), gateway)] if gateway else [])

    @cached_property
    def hosts(self) -> list[tuple[Path, IPv4Address]]:
        """The control-plane hosts, and the endpoint if it is an address."""
        paths = [(*item, "address") for item in self.view.each("controlPlane", "hosts")]
        found = [(path, self.view.read(address_from, *path)) for path in paths]
        hosts = [(path, address) for path, address in found if address]
        virtual = self.view.read(_endpoint_address, *ENDPOINT)
        if virtual and virtual not in {address for _, address in hosts}:
            hosts.append((ENDPOINT, virtual))
        return hosts

    @cached_property
    def machines(self) -> list[tuple[Path, IPv4Address]]:
        """The reserved addresses of machines."""
        paths = [(*item, "address") for item in self.view.each("machines")]
        found = [(path, self.view.read(address_from, *path)) for path in paths]
        return [(path, address) for path, address in found if address]

    @cached_property
    def free(self) -> str:
        """An address of the private network that nobody has, to suggest."""
        if self.network is None:
            return "another address"
        taken = {address for _, address in (*self.ours, *self.hosts, *self.machines)}
        # After the DHCP range first: the lowest addresses of a network are often its routers'.
        start = self.dhcp[1] if self.dhcp and self.dhcp[1] in self.network else self.network[0]
        after = int(start) - int(self.network[0]) + 1
        numbers = chain(range(after, self.network.num_addresses - 1), range(1, after))
        candidates = (self.network[number] for number in islice(numbers, FREE_TRIED))
        usable = (a for a in candidates if a not in taken and not (self.dhcp and holds(self.dhcp, a)))
        found = next(usable, None)
        return f"such as {found}" if found else "another address"


def layout_of(view: View) -> Layout:
    """Return the layout of the tree under check, read once for all rules."""
    found = view.found.setdefault("layout", Layout(view))
    assert isinstance(found, Layout)  # noqa: S101  # nothing else has this name
    return found


def _endpoint_address(value: object) -> IPv4Address:
    return address_from(endpoint_from(value).rpartition(":")[0])


def holds(pair: Pair, address: IPv4Address) -> bool:
    """Return whether `address` is in the range."""
    return pair[0] <= address <= pair[1]


def edge(address: IPv4Address, network: IPv4Network) -> bool:
    """Return whether `address` is the network's own or its broadcast address."""
    return address in (network.network_address, network.broadcast_address)


def separate_networks(view: View) -> Iterator[Problem]:
    """Pods, services and the private network are routed by their addresses."""
    subnets = layout_of(view).subnets
    networks = dict(subnets)
    for (one, first), (other, second) in combinations(subnets, 2):
        if not first.overlaps(second):
            continue
        # The private network is there already, so the pods or services move, if the file says where they are.
        order = (one, other) if other == APPLIANCE else (other, one)
        wrong = order[0] if view.has(*order[0]) else order[1]
        right = other if wrong == one else one
        advice = _apart(list(networks.values()))
        clash = f"{networks[wrong]} overlaps {networks[right]} ({view.where(right)})"
        yield view.problem(wrong, f"{clash}; {advice}")
    taken = [*networks.values(), *(one.network for one in layout_of(view).further)]
    for (path, network), far in product(subnets, layout_of(view).further):
        if path != APPLIANCE and network.overlaps(far.network):
            where = (*far.path, "subnet")
            wrong, right = (path, where) if view.has(*path) else (where, path)
            clash = (
                f"{network} overlaps {far.network}" if wrong == path else f"{far.network} overlaps {network}"
            )
            yield view.problem(wrong, f"{clash} ({view.where(right)}); {_apart(taken)}")


def _apart(taken: list[IPv4Network]) -> str:
    """Return what to write so that networks lie apart; no private one is free if one of them is the whole net."""
    tens, others = (f"10.{n}.0.0/16" for n in range(2, 256)), (f"172.{n}.0.0/16" for n in range(16, 32))
    candidates = map(IPv4Network, chain(tens, others, ("192.168.0.0/16",)))
    free = (spare for spare in candidates if not any(spare.overlaps(network) for network in taken))
    spare = next(free, None)
    return f"write a network of its own such as {spare}" if spare else "make the larger one smaller"


def subnet_sizes(view: View) -> Iterator[Problem]:
    """Every node needs a /24 of the pod subnet; services need room for DNS."""
    pods, services = view.read(network_from, *POD), view.read(network_from, *SERVICE)
    nodes = len(list(view.each("machines"))) + len(list(view.each("controlPlane", "hosts")))
    room = 2 ** max(NODE_PREFIX - pods.prefixlen, 0) if pods else 0
    if pods and (pods.prefixlen > NODE_PREFIX or nodes > room):
        wanted = NODE_PREFIX - max(nodes - 1, 255).bit_length()
        yield view.problem(
            POD, f"{pods} is too small for {nodes} nodes with a /24 each; write such as {pods[0]}/{wanted}"
        )
    if services and not LARGEST_SERVICE <= services.prefixlen <= SMALLEST_SERVICE:
        yield view.problem(
            SERVICE,
            f"{services} has no usable size; write a prefix length from 12 to 28 such as {services[0]}/16",
        )


def own_address(view: View) -> Iterator[Problem]:
    """The appliance is a host of a network with room for machines."""
    layout = layout_of(view)
    if layout.interface is None or layout.network is None:
        return
    address, network = layout.interface.ip, layout.network
    if network.prefixlen > 29:  # noqa: PLR2004  # fewer than six hosts
        yield view.problem(
            APPLIANCE, f"{network} has no room for machines; write a prefix length such as {address}/24"
        )
    elif edge(address, network):
        yield view.problem(
            APPLIANCE,
            f"{address} is the network or broadcast address of {network}; write such as {network[1]}"
            f"/{network.prefixlen}",
        )
    for path, gateway in layout.ours[1:]:
        if gateway not in network or edge(gateway, network):
            yield view.problem(path, f"{gateway} is no host of {network}; write the router's address there")


def dhcp_range(view: View) -> Iterator[Problem]:
    """The range lies in the private network, in order."""
    layout = layout_of(view)
    network = layout.network
    outside = 0
    for path in ((*RANGE, 0), (*RANGE, 1)):
        end = view.read(address_from, *path)
        if end and network and (end not in network or edge(end, network)):
            outside += 1
            where = f"{network} ({view.where(APPLIANCE)})"
            yield view.problem(path, f"{end} is no host of {where}; write {layout.free}")
    first, last = (view.read(address_from, *RANGE, end) for end in (0, 1))
    if first and last and first > last and not outside:
        yield view.problem(RANGE, f"{first} to {last} runs backwards; write [{last}, {first}]")


def range_holds_nobody(view: View) -> Iterator[Problem]:
    """What has a fixed address is outside of the DHCP range."""
    layout = layout_of(view)
    if layout.dhcp is None:
        return
    span = f"{layout.dhcp[0]}-{layout.dhcp[1]}"
    for path, address in layout.ours:
        if holds(layout.dhcp, address):
            yield view.problem(
                RANGE, f"{span} holds {address} ({view.where(path)}); write a range without it"
            )
    for path, address in (*layout.hosts, *layout.machines):
        if holds(layout.dhcp, address):
            yield view.problem(
                path,
                f"{address} lies in the DHCP range {span} ({view.where(RANGE)}); write {layout.free}",
            )


def machine_addresses(view: View) -> Iterator[Problem]:
    """A machine's address is in the private network, or one behind a relay, and nobody else's."""
    layout = layout_of(view)
    network = layout.network
    taken = {address: path for path, address in reversed([*layout.ours, *layout.hosts])}
    networks = [*([network] if network else []), *(one.network for one in layout.further)]
    for path, address in layout.machines:
        if network and not any(address in one and not edge(address, one) for one in networks):
            yield view.problem(
                path,
                f"{address} is no host of {network} ({view.where(APPLIANCE)}); write {layout.free}",
            )
        elif address in taken:
            yield view.problem(
                path, f"{address} is taken ({view.where(taken[address])}); write {layout.free}"
            )
        taken.setdefault(address, path)


def host_addresses(view: View) -> Iterator[Problem]:
    """Control-plane hosts are told apart by address, and are neither pods nor services."""
    layout, first = layout_of(view), dict[IPv4Address, Path]()
    for path, address in layout.hosts:
        if address in first:
            yield view.problem(
                path, f"{address} is taken ({view.where(first[address])}); write the host's own"
            )
        first.setdefault(address, path)
        for subnet, network in layout.subnets:
            if subnet != APPLIANCE and address in network:
                yield view.problem(
                    path, f"{address} lies in {network} ({view.where(subnet)}); change one of them"
                )


def metallb(view: View) -> Iterator[Problem]:
    """What MetalLB gives out belongs to nobody else."""
    layout = layout_of(view)
    earlier: list[tuple[Path, Pair]] = [(RANGE, layout.dhcp)] if layout.dhcp else []
    earlier += [((*one.path, "range"), one.range) for one in layout.further if one.range]
    earlier += [(path, (network[0], network[-1])) for path, network in layout.subnets if path != APPLIANCE]
    earlier += [
        (path, (address, address)) for path, address in (*layout.ours, *layout.hosts, *layout.machines)
    ]
    for addon in view.each("addons"):
        for path in view.each(*addon, "metallb", "addresses"):
            pair = view.read(range_from, *path)
            if pair is not None:
                yield from _metallb_range(view, path, pair, earlier)
                earlier.append((path, pair))


def _metallb_range(view: View, path: Path, pair: Pair, earlier: list[tuple[Path, Pair]]) -> Iterator[Problem]:
    if pair[0] > pair[1]:
        yield view.problem(path, f"{pair[0]} to {pair[1]} runs backwards; write {pair[1]}-{pair[0]}")
    for other, taken in earlier:
        if pair[0] <= taken[1] and taken[0] <= pair[1]:
            span = str(taken[0]) if taken[0] == taken[1] else f"{taken[0]}-{taken[1]}"
            yield view.problem(
                path,
                f"{pair[0]}-{pair[1]} overlaps {span} ({view.where(other)}); write addresses nobody else has",
            )


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (
    separate_networks,
    subnet_sizes,
    own_address,
    dhcp_range,
    range_holds_nobody,
    machine_addresses,
    host_addresses,
    metallb,
)
