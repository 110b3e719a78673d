"""BMCs that speak IPMI 2.0 over the network, through pyghmi."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from pyghmi.exceptions import IpmiException
from pyghmi.ipmi.command import Command

from bootstrap.errors import PowerError
from bootstrap.model.machine import IpmiPower
from bootstrap.power import PowerDriver, PowerState
from bootstrap.secret_file import secret_in

HASHES = {256: 17, 1: 3}
"""The cipher suite (IPMI 2.0, table 22-20) by what pyghmi calls the hash that both sides agreed on."""

REFUSALS = ("password", "unauthorized", "privilege", "name length")
"""Words in what pyghmi says when a BMC does not let us in (IPMI 2.0, table 13-15)."""


class Ipmi(PowerDriver[IpmiPower]):
    """Logs in once, and out: a BMC has few sessions, and forgets one that fell silent only after a minute."""

    def state(self) -> PowerState:
        """Return what the chassis says of its power."""
        with self._told():
            return PowerState(self._bmc.get_power()["powerstate"])

    def on(self) -> None:
        """Switch on, and wait until the chassis says so."""
        self._switch(PowerState.ON)

    def off(self) -> None:
        """Cut the power, and wait until the chassis says so."""
        self._switch(PowerState.OFF)

    def netboot(self) -> None:
        """Set the boot flags for the next start (IPMI 2.0, table 28-14, parameter 5)."""
        with self._told():
            self._bmc.set_bootdev("network", persist=False, uefiboot=self.power.firmware == "uefi")

    def close(self) -> None:
        """Log out, if we ever were in."""
        if "_bmc" in vars(self):
            self._bmc.ipmi_session.logout()

    def _switch(self, wanted: PowerState) -> None:
        with self._told():
            self._bmc.set_power(wanted.value)
        self.until(wanted)

    @property
    def _place(self) -> str:
        return f"{self.power.address} port {self.power.port}"

    @cached_property
    def _bmc(self) -> Command:
        secret = secret_in(self.target.base / self.power.password_file, "the BMC's password")
        bmc = Command(
            bmc=str(self.power.address),
            port=self.power.port,
            userid=self.power.user,
            password=secret.reveal().decode(),
        )
        found = HASHES.get(bmc.ipmi_session.attemptedhash, 0)
        if found < self.power.cipher_suite:
            bmc.ipmi_session.logout()
            raise PowerError(
                f"{self.target.name}: the BMC at {self._place} offers only cipher suite {found}; "
                f"write cipherSuite: {found} if SHA-1 will do, or update its firmware"
            )
        return bmc

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except IpmiException as error:
            raise self._error(str(error)) from error
        except OSError as error:
            raise PowerError(
                f"{self.target.name}: cannot reach the BMC at {self._place}: {error.strerror or error}; "
                "check power.address"
            ) from error

    def _error(self, said: str) -> PowerError:
        """Return what pyghmi said in words of use; of a silent BMC it says `timeout`, `None` or something long."""
        name = self.target.name
        if any(word in said.lower() for word in REFUSALS):
            return PowerError(
                f"{name}: the BMC at {self._place} refuses user {self.power.user!r} ({said}); "
                f"check power.user and what is in {self.power.password_file}"
            )
        if said in {"timeout", "None", ""} or "no longer connected" in said or "timeout" in said.lower():
            return PowerError(
                f"{name}: no whole answer from the BMC at {self._place} (UDP); check power.address, "
                "the cable, and that IPMI over LAN is switched on"
            )
        return PowerError(f"{name}: the BMC at {self._place} says: {said}; see its manual")


PLUGIN = Ipmi
