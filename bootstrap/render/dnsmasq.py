"""The dnsmasq.conf of a cluster: leases, loaders, and where iPXE goes on."""

from collections.abc import Iterable
from ipaddress import IPv4Address

from bootstrap.model import Appliance, Cluster, Machine
from bootstrap.render.firmware import TABLE
from bootstrap.templates import render

# Memory is all that a lease costs; the default of 1000 would turn machines away in a large rack.
_LEASE_MAX = 100_000


def dnsmasq_conf(cluster: Cluster) -> str:
    """Return dnsmasq.conf for the mode in `appliance.dhcp`: server, proxy or off."""
    appliance = cluster.appliance
    first, last = _range(appliance)
    return render(
        "dnsmasq/dnsmasq.conf.j2",
        mode=appliance.dhcp.mode,
        interface=appliance.interface,
        address=appliance.address.ip,
        network=appliance.address.network.network_address,
        netmask=appliance.address.network.netmask,
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
        not_yet_url=f"{cluster.base_url}/http-boot-not-yet",
        machines=[_host(machine) for machine in cluster.machines],
    )


def _range(appliance: Appliance) -> tuple[str, str]:
    """Return first and last address for unlisted machines; with no range only listed ones are answered."""
    if appliance.dhcp.range is None:
        return str(appliance.address.network.network_address), "static"
    first, last = appliance.dhcp.range
    return str(first), str(last)


def _values(addresses: Iterable[IPv4Address]) -> str:
    """Return the values of a DHCP option, each after a comma; none means that the option is not sent at all.

    dnsmasq offers itself as router where the option is not named.
    """
    return "".join(f",{address}" for address in addresses)


def _host(machine: Machine) -> str:
    """Return the reservation of `machine`: MAC, address if it has one, name."""
    address = () if machine.address is None else (str(machine.address),)
    return ",".join((machine.mac, *address, machine.name))
