"""Switched power strips that are told by SNMP, through pysnmp: APC's rPDU tables (PowerNet-MIB), SNMPv1."""

import asyncio
from contextlib import suppress
from typing import Any

from pysnmp.hlapi.v1arch import asyncio as snmp
from pysnmp.proto.rfc1902 import Integer

from bootstrap.errors import PowerError
from bootstrap.model.machine import PduPower
from bootstrap.power import PowerDriver, PowerState
from bootstrap.secret_file import secret_in

CONTROL = "1.3.6.1.4.1.318.1.1.12.3.3.1.1.4"
"""rPDUOutletControlOutletCommand, by outlet."""
STATUS = "1.3.6.1.4.1.318.1.1.12.3.5.1.1.4"
"""rPDUOutletStatusOutletState, by outlet."""
IMMEDIATE_ON, IMMEDIATE_OFF = 1, 2
STATES = {1: PowerState.ON, 2: PowerState.OFF}

SNMP_V1 = 0  # what a strip of any age speaks; RFC 3411's number for it
TRY_SECONDS = 1.5
TRIES = 4
NO_SUCH_NAME, READ_ONLY = 2, 4
REFUSED = {NO_SUCH_NAME, READ_ONLY}
"""Error statuses of RFC 1157 (section 4.1): no such outlet, or a community that may not."""


class Pdu(PowerDriver[PduPower]):
    """Switches an outlet. To the strip, a machine with two power supplies is two machines."""

    def state(self) -> PowerState:
        """Return whether the outlet gives power; the machine may still be off behind it."""
        return STATES.get(self._ask(STATUS), PowerState.UNKNOWN)

    def on(self) -> None:
        """Give the outlet power, and wait until the strip says so."""
        self._switch(PowerState.ON, IMMEDIATE_ON)

    def off(self) -> None:
        """Take the outlet's power, and wait until the strip says so."""
        self._switch(PowerState.OFF, IMMEDIATE_OFF)

    @property
    def rest_seconds(self) -> float:
        """Return `offSeconds`."""
        return float(self.power.off_seconds)

    def _switch(self, wanted: PowerState, command: int) -> None:
        if self.state() is wanted:
            return
        self._ask(CONTROL, command)
        self.until(wanted)

    def _ask(self, table: str, value: int | None = None) -> int:
        """Set this outlet's row of `table` to `value`, or read it; return what it holds."""
        secret = secret_in(self.target.base / self.power.community_file, "the SNMP community")
        oid = snmp.ObjectIdentity(f"{table}.{self.power.outlet}")
        try:
            status, found = asyncio.run(self._answer(secret.reveal().decode(), oid, value))
        except TimeoutError:
            raise self._no_answer() from None
        except OSError as error:
            raise PowerError(
                f"{self.target.name}: cannot reach {self._strip}: {error.strerror}; check power.address"
            ) from error
        if status in REFUSED:
            raise self._refused(changes=value is not None)
        if status:
            raise PowerError(
                f"{self.target.name}: {self._strip} answers SNMP error {status}; see the strip's log"
            )
        return found

    async def _answer(self, community: str, oid: snmp.ObjectIdentity, value: int | None) -> tuple[int, int]:
        """Ask a few times: datagrams get lost, and an order may be given twice. TimeoutError if nothing came."""
        for left in reversed(range(TRIES)):
            patience = min(self.deadline.left(), TRY_SECONDS)
            try:
                return await asyncio.wait_for(self._exchange(community, oid, value), patience)
            except TimeoutError:
                if not left or not self.deadline.left():
                    break
        raise TimeoutError

    async def _exchange(self, community: str, oid: snmp.ObjectIdentity, value: int | None) -> tuple[int, int]:
        """Return the error status of the answer, and its value; wait for it without end."""
        dispatcher = snmp.SnmpDispatcher()
        try:
            place = await snmp.UdpTransportTarget.create(
                (str(self.power.address), self.power.port), timeout=10 * TRY_SECONDS, retries=0
            )
            who = snmp.CommunityData(community, mpModel=SNMP_V1)
            act = snmp.get_cmd if value is None else snmp.set_cmd
            row = (oid,) if value is None else (oid, Integer(value))
            _, status, _, rows = await act(dispatcher, who, place, snmp.ObjectType(*row), lookupMib=False)
            return int(status), _number(rows)
        finally:
            # pysnmp 7.1.30 has closed the socket when it calls back about what is unanswered, with an argument too few.
            with suppress(TypeError):
                dispatcher.close()

    @property
    def _strip(self) -> str:
        return f"the power strip at {self.power.address} port {self.power.port}"

    def _no_answer(self) -> PowerError:
        """Return what is known when nothing comes: SNMPv1 does not answer a wrong community (RFC 1157, 4.1)."""
        return PowerError(
            f"{self.target.name}: no whole answer from {self._strip}; check power.address, that SNMPv1 is "
            f"switched on, and the community in {self.power.community_file} (a wrong one is never answered)"
        )

    def _refused(self, *, changes: bool) -> PowerError:
        name, outlet = self.target.name, self.power.outlet
        if changes:
            return PowerError(
                f"{name}: {self._strip} does not let this community switch outlet {outlet}; "
                f"write one with write access into {self.power.community_file}"
            )
        return PowerError(f"{name}: {self._strip} has no outlet {outlet}; check power.outlet")


def _number(rows: Any) -> int:
    """Return the one value that was asked for, or 0 if it is no number."""
    try:
        return int(rows[0][1])
    except (IndexError, TypeError, ValueError):
        return 0


PLUGIN = Pdu
