"""The virtual machines of the lab: the buttons that `lab power` presses."""

import os
from functools import cached_property

from bootstrap.errors import PowerError
from bootstrap.lab.rack import Rack
from bootstrap.model.machine import LabPower
from bootstrap.power import PowerDriver, PowerState


class Lab(PowerDriver[LabPower]):
    """Starts and ends the machine's QEMU; LabErrors go through as they are."""

    def state(self) -> PowerState:
        """Return whether its QEMU runs."""
        return self._rack.states()[self.target.name]

    def on(self) -> None:
        """Start its QEMU."""
        self._rack.power_on(self.target.name)

    def off(self) -> None:
        """End its QEMU."""
        self._rack.power_off(self.target.name)

    def netboot(self) -> None:
        """Choose the network for its next start; most machines of the lab have it first anyway."""
        self._rack.netboot(self.target.name)

    @cached_property
    def _rack(self) -> Rack:
        if os.geteuid() != 0:
            raise PowerError(f"{self.target.name}: driver lab needs root; run this with sudo")
        return Rack(self.target.cluster, self.target.work)


PLUGIN = Lab
