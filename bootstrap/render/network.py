"""How an installed machine brings up the card that it booted from, and learns the time."""

from bootstrap.model import Machine
from bootstrap.render import ignition
from bootstrap.templates import render

# networkd removes routes that it does not know whenever it looks at a card anew; those to pods are not its own.
FOREIGN_ROUTES = ignition.file(
    "/etc/systemd/networkd.conf.d/10-firstlight.conf", "[Network]\nManageForeignRoutes=no\n"
)


def networkd(machine: Machine) -> tuple[ignition.Node, ...]:
    """Return the systemd-networkd file for `machine`: its card is known by its MAC address."""
    text = render("systemd/10-firstlight.network.j2", mac=machine.mac)
    return (ignition.file("/etc/systemd/network/10-firstlight.network", text),)


def network_manager(machine: Machine) -> tuple[ignition.Node, ...]:
    """Return the NetworkManager connection for `machine`; NetworkManager reads it only with mode 0600."""
    text = render("systemd/firstlight.nmconnection.j2", mac=machine.mac)
    path = "/etc/NetworkManager/system-connections/firstlight.nmconnection"
    return (ignition.file(path, text, mode=0o600),)


def timesyncd(servers: tuple[str, ...]) -> tuple[ignition.Node, ...]:
    """Return the systemd-timesyncd drop-in that names `servers`, or nothing if there are none."""
    if not servers:
        return ()
    text = render("systemd/timesyncd.conf.j2", servers=" ".join(servers))
    return (ignition.file("/etc/systemd/timesyncd.conf.d/10-firstlight.conf", text),)


def chrony(servers: tuple[str, ...]) -> tuple[ignition.Node, ...]:
    """Return the chrony.conf that names `servers`, or nothing if there are none."""
    if not servers:
        return ()
    return (ignition.file("/etc/chrony.conf", render("systemd/chrony.conf.j2", servers=servers)),)
