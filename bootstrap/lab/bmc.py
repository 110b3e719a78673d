"""What the BMC of a virtual machine is: whose it is, where it answers, and what OpenIPMI's ipmi_sim is told; pure."""

import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from bootstrap.errors import LabError
from bootstrap.lab.machine import LAB_UUID
from bootstrap.model import Cluster
from bootstrap.model.lab import LONGEST_BMC_PASSWORD, LONGEST_BMC_USER, bmc_takes
from bootstrap.model.machine import IpmiPower
from certs.secret import Secret

CIPHER_SUITE = 3
"""The one that ipmi_sim speaks of those with a password (OpenIPMI 2.0.33)."""

PROGRAM = "chassis"
"""The file of a BMC's folder that ipmi_sim asks for the machine's power (ipmi_lan(5), chassis_control)."""

LAN = """\
name "{name}"
set_working_mc 0x20
  startlan 1
    addr {address} {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid {guid}
  endlan
  chassis_control "/bin/sh {program} 0x20"
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""

EMULATION = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""


@dataclass(frozen=True, kw_only=True)
class Bmc:
    """The BMC of the virtual machine `name`, as the machine's `power` describes it; `cluster` tells racks apart."""

    cluster: str
    name: str
    power: IpmiPower

    @property
    def address(self) -> IPv4Address:
        """Return where it answers.

        Raises:
            LabError: the configuration names no address, and the rack has no DNS.
        """
        if isinstance(self.power.address, IPv4Address):
            return self.power.address
        raise LabError(f"the BMC of {self.name} is at {self.power.address!r}; write an address in the lab")

    @property
    def guid(self) -> str:
        """Return what it calls itself (IPMI 2.0, 20.8), as 32 hexadecimal digits: the same for the same machine."""
        return uuid.uuid5(LAB_UUID, f"{self.cluster}/{self.name}/bmc").hex


def bmcs_from(cluster: Cluster) -> Mapping[str, Bmc]:
    """Return the BMCs of the lab's machines by the machine's name; none without `lab.bmc`."""
    if cluster.lab is None or cluster.lab.bmc != "ipmi":
        return {}
    listed = {machine.name: machine.power for machine in cluster.machines}
    return {
        vm.name: Bmc(cluster=cluster.metadata.name, name=vm.name, power=power)
        for vm in cluster.lab.machines
        if isinstance(power := listed.get(vm.name), IpmiPower)
    }


def lan_text(bmc: Bmc, password: Secret, folder: str) -> bytes:
    """Return ipmi_sim's configuration; it holds the password, so it is for its owner alone.

    Raises:
        LabError: the user or the password is longer than IPMI has room for, or cannot stand between quotes.
    """
    user, secret = bmc.power.user, password.reveal().decode("ascii", "replace")
    for what, text, longest in (("user", user, LONGEST_BMC_USER), ("password", secret, LONGEST_BMC_PASSWORD)):
        if not bmc_takes(text, longest):
            raise LabError(
                f"the BMC of {bmc.name}: its {what} must be at most {longest} ASCII characters without quotes and \\"
            )
    program = shlex.quote(f"{folder}/{PROGRAM}")
    if '"' in program:
        raise LabError(f"{folder}: ipmi_sim takes no path with quotes; move the work folder")
    return LAN.format(
        name=bmc.name,
        address=bmc.address,
        port=bmc.power.port,
        guid=bmc.guid,
        program=program,
        user=user,
        password=secret,
    ).encode()


def program_text(python: str, root: str, work: str, name: str) -> bytes:
    """Return the program that ipmi_sim asks: ours (bootstrap/lab/chassis.py), for the machine `name` of a work folder.

    `python` and `root` are the interpreter and the checkout to run it with.
    """
    command = shlex.join((python, "-m", "bootstrap.lab.chassis", work, name))
    return f'#!/bin/sh\ncd {shlex.quote(root)} && exec {command} "$@"\n'.encode()
