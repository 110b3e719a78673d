"""Machines that their network card wakes up: a magic packet switches on, and nothing switches off."""

import socket
from ipaddress import IPv4Address

from bootstrap.errors import PowerError, PowerUnsupported
from bootstrap.model.machine import WakeOnLanPower
from bootstrap.power import PowerDriver, PowerState

COPIES = 3
"""A broadcast may get lost, and nobody answers it."""


class WakeOnLan(PowerDriver[WakeOnLanPower]):
    """Sends packets and hears nothing."""

    def state(self) -> PowerState:
        """Return that nobody can tell."""
        return PowerState.UNKNOWN

    def on(self) -> None:
        """Send the magic packet; whether it was heard, the machine's boot tells.

        A machine of unknown address may be in any network: one that does not take the packet is a remark, all are a
        PowerError.
        """
        places = self._places()
        failed = [text for place in places if (text := self._send(place))]
        if len(failed) == len(places):
            raise PowerError(
                f"{self.target.name}: cannot send a magic packet to {', '.join(failed)}; "
                "check power.broadcast, and that this computer is on that network"
            )
        if failed:
            self.remark = (
                f"{self.target.name}: the magic packet went out, but not to {', '.join(failed)}; "
                "if it does not wake up, write its address or power.broadcast"
            )

    def _send(self, place: IPv4Address) -> str:
        """Send the magic packet to a broadcast address; return where it could not go and why, empty if it went."""
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                for _ in range(COPIES):
                    wire.sendto(magic_packet(self.target.machine.mac), (str(place), self.power.port))
        except OSError as error:
            return f"{place}: {error.strerror}"
        return ""

    def _places(self) -> tuple[IPv4Address, ...]:
        """Return where the machine may hear it: in the network that its address is of, else in each of ours.

        To a network behind a router it is a directed broadcast (RFC 2644), which most routers pass only if told to.
        """
        if self.power.broadcast is not None:
            return (self.power.broadcast,)
        address, networks = self.target.machine.address, self.target.cluster.networks
        own = tuple(network for network in networks if address is not None and address in network)
        return tuple(network.broadcast_address for network in own or networks)

    def off(self) -> None:
        """Refuse."""
        raise PowerUnsupported(
            f"{self.target.name}: driver wake-on-lan can only switch on; switch it off by hand or over SSH"
        )


def magic_packet(mac: str) -> bytes:
    """Return the packet that wakes `mac`: six bytes of ones, and the address sixteen times (AMD 20213)."""
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) * 16


PLUGIN = WakeOnLan
