"""Machines that their network card wakes up: a magic packet switches on, and nothing switches off."""

import socket

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
        """Send the magic packet; whether it was heard, the machine's boot tells."""
        given = self.power.broadcast or self.target.cluster.appliance.address.network.broadcast_address
        place = (str(given), self.power.port)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                for _ in range(COPIES):
                    wire.sendto(magic_packet(self.target.machine.mac), place)
        except OSError as error:
            raise PowerError(
                f"{self.target.name}: cannot send a magic packet to {given}: {error.strerror}; "
                "check power.broadcast, and that this computer is on that network"
            ) from error

    def off(self) -> None:
        """Refuse."""
        raise PowerUnsupported(
            f"{self.target.name}: driver wake-on-lan can only switch on; switch it off by hand or over SSH"
        )


def magic_packet(mac: str) -> bytes:
    """Return the packet that wakes `mac`: six bytes of ones, and the address sixteen times (AMD 20213)."""
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) * 16


PLUGIN = WakeOnLan
