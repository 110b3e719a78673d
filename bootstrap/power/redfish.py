"""BMCs that speak Redfish, through sushy."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import sushy
from sushy import auth, exceptions

from bootstrap.errors import PowerError
from bootstrap.model.machine import RedfishPower
from bootstrap.power import PowerDriver, PowerState
from bootstrap.secret_file import secret_in

CONNECT_SECONDS = 8.0
READ_SECONDS = 20.0  # BMCs that are busy with a boot take as long
SYSTEMS = "/redfish/v1/Systems/"

STATES = {sushy.PowerState.ON: PowerState.ON, sushy.PowerState.OFF: PowerState.OFF}


class Redfish(PowerDriver[RedfishPower]):
    """Sends the password with each request: a session that nobody closes would take one of the few that there are."""

    seconds = 90.0

    def state(self) -> PowerState:
        """Return what the system says of its power; between two states it is unknown."""
        with self._told():
            self._system.refresh(force=True)
            return STATES.get(self._system.power_state, PowerState.UNKNOWN)

    def on(self) -> None:
        """Switch on, and wait until the system says so."""
        self._switch(PowerState.ON, sushy.ResetType.ON)

    def off(self) -> None:
        """Cut the power, and wait until the system says so."""
        self._switch(PowerState.OFF, sushy.ResetType.FORCE_OFF)

    def netboot(self) -> None:
        """Override the boot source once (DSP0268, ComputerSystem, Boot)."""
        with self._told():
            self._system.set_system_boot_options(
                target=sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE
            )

    def _switch(self, wanted: PowerState, reset: sushy.ResetType) -> None:
        if self.state() is wanted:  # many BMCs answer 409 to what is so already
            return
        with self._told():
            self._system.reset_system(reset)
        self.until(wanted)

    @cached_property
    def _system(self) -> sushy.resources.system.system.System:
        secret = secret_in(self.target.base / self.power.password_file, "the BMC's password")
        ca_file = self.power.ca_file
        root = sushy.Sushy(
            self.power.address,
            auth=auth.BasicAuth(self.power.user, secret.reveal().decode()),
            verify=str(self.target.base / ca_file) if ca_file else True,
            server_side_retries=1,
            server_side_retries_delay=1,
            connect_timeout=min(CONNECT_SECONDS, self.deadline.left()),
            read_timeout=min(READ_SECONDS, self.deadline.left()),
        )
        system = self.power.system
        return root.get_system(None if system is None else f"{SYSTEMS}{system.removeprefix(SYSTEMS)}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UnicodeError:  # a ValueError that is none of the BMC's
            raise
        except (exceptions.SushyError, OSError, ValueError) as error:
            raise PowerError(f"{self.target.name}: {self._what_is_wrong(error)}") from error

    def _what_is_wrong(self, error: Exception) -> str:
        bmc, said = f"the BMC at {self.power.address}", str(error).strip()
        if isinstance(error, exceptions.ConnectionError) and "CERTIFICATE_VERIFY_FAILED" in said:
            return f"{bmc} shows a certificate that nobody vouches for; write its CA's file in power.caFile"
        remedies: dict[type[Exception], str] = {
            exceptions.AccessError: f"refuses user {self.power.user!r}; check power.user and what is in "
            f"{self.power.password_file}",
            exceptions.ConnectionError: f"gives no whole answer ({_reason(said)}); check power.address and the cable",
            exceptions.UnknownDefaultError: "serves several systems or none; write which in power.system",
            exceptions.ResourceNotFoundError: "knows no such system; check power.system",
            OSError: f"cannot be asked ({said}); check power.caFile",
        }
        found = [text for kind, text in remedies.items() if isinstance(error, kind)]
        return f"{bmc} {(*found, f'answers what cannot be used ({_reason(said)}); see its log')[0]}"


def _reason(said: str) -> str:
    """Return the last part of a chain of errors, which is the one that tells."""
    return said.rpartition("Error: ")[2].rpartition("Caused by ")[2].strip("()")[:160]


PLUGIN = Redfish
