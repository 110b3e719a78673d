"""The dnsmasq.conf of a cluster: leases, loaders, and where iPXE goes on."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

from bootstrap.model import Appliance, Cluster, Machine, Subnet
from bootstrap.model.appliance import Tftp
from bootstrap.render.firmware import NO_LOADER, TABLE
from bootstrap.templates import render

# Memory is all that a lease costs; the default of 1000 would turn machines away in a large rack.
_LEASE_MAX = 100_000
_TFTP_HEADERS = 32
_PLAIN_BLOCK = 512  # RFC 1350; what is sent if nothing else was agreed on


def dnsmasq_conf(cluster: Cluster) -> str:
    """Return dnsmasq.conf for the mode in `appliance.dhcp`: server, proxy or off."""
    appliance = cluster.appliance
    own = appliance.address.network
    first, last = _ends(own, appliance.dhcp.range)
    return render(
        "dnsmasq/dnsmasq.conf.j2",
        mode=appliance.dhcp.mode,
        interface=appliance.interface,
        tftp_blocks=_blocks(appliance.pxe.tftp),
        tftp_otherwise=_otherwise(cluster),
        address=appliance.address.ip,
        netmask=own.netmask,
        networks=[_network(number, one) for number, one in enumerate(_networks(appliance))],
        first=first,
        last=last,
        lease_time=appliance.dhcp.lease_time,
        lease_max=_LEASE_MAX,
        domain=appliance.domain,
        router=_values(() if appliance.gateway is None else (appliance.gateway,)),
        dns=_values(appliance.dns),
        ntp=_values(server for server in appliance.ntp if isinstance(server, IPv4Address)),
        firmware=TABLE,
        script_url=f"{cluster.base_url}/boot.ipxe",
        base=cluster.base_url,
        no_loader_url=f"{cluster.base_url}/{NO_LOADER}",
        machines=[_host(machine) for machine in cluster.machines],
    )


def _blocks(tftp: Tftp) -> str:
    """Return the directive about the size of TFTP's blocks."""
    if tftp.max_block_size == _PLAIN_BLOCK:
        return "tftp-no-blocksize"
    # dnsmasq takes the headers of IP, UDP and TFTP off the MTU, and agrees on no larger block (its tftp.c).
    return f"tftp-mtu={tftp.max_block_size + _TFTP_HEADERS}"


def _otherwise(cluster: Cluster) -> list[str]:
    """Return who is spoken TFTP with as `tftp` says: a remark, and the change of it is one of pxe's documents."""
    ways = ((machine, cluster.tftp_of(machine)) for machine in cluster.machines)
    return [f"{machine.name}: {tftp.model_dump_json(by_alias=True)}" for machine, tftp in ways if tftp]


def _ends(network: IPv4Network, given: tuple[IPv4Address, IPv4Address] | None) -> tuple[str, str]:
    """Return first and last address for unlisted machines; with no range only listed ones are answered."""
    if given is None:
        return str(network.network_address), "static"
    return str(given[0]), str(given[1])


def _networks(appliance: Appliance) -> tuple[Subnet, ...]:
    """Return the networks of the machines: our own, then those behind relays."""
    dhcp = appliance.dhcp
    own = Subnet(subnet=appliance.address.network, gateway=appliance.gateway, range=dhcp.range)
    return (own, *dhcp.subnets)


def _network(number: int, subnet: Subnet) -> Mapping[str, str]:
    """Return what is said of one network; `tag` is on every packet that came from there."""
    first, last = _ends(subnet.subnet, subnet.range)
    return {
        "tag": f"network-{number}",
        "address": str(subnet.subnet.network_address),
        "netmask": str(subnet.subnet.netmask),
        "gateway": str(subnet.gateway),
        "first": first,
        "last": last,
    }


def _values(addresses: Iterable[IPv4Address]) -> str:
    """Return the values of a DHCP option, each after a comma; none means that the option is not sent at all.

    dnsmasq offers itself as router where the option is not named.
    """
    return "".join(f",{address}" for address in addresses)


def _host(machine: Machine) -> str:
    """Return the reservation of `machine`: MAC, address if it has one, name."""
    address = () if machine.address is None else (str(machine.address),)
    return ",".join((machine.mac, *address, machine.name))
