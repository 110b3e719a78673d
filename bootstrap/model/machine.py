"""A machine that the configuration lists, and how it is switched on and off."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from bootstrap.model.addresses import Address, AddressOrName, HttpsUrl, Url
from bootstrap.model.base import Model
from bootstrap.model.kubernetes import Port
from bootstrap.model.pool import BootFromDisk, Disk, MachineTftp
from bootstrap.model.types import FilePath, Mac, Name, Pattern, VariableName, Word

Words = Annotated[tuple[Word, ...], Field(min_length=1, max_length=64)]
"""A command: the program and its arguments, one by one; no shell reads it."""


class ManualPower(Model):
    """A person presses the button."""

    driver: Literal["manual"]
    """manual: you are asked to press the button."""


class LabPower(Model):
    """The machine is a virtual one of the lab."""

    driver: Literal["lab"]
    """lab: a virtual machine of the `lab:` section."""


class IpmiPower(Model):
    """The machine has a BMC that speaks IPMI 2.0."""

    driver: Literal["ipmi"]
    """ipmi: IPMI 2.0 over the network."""
    address: AddressOrName
    """The BMC's address."""
    user: Pattern
    """The BMC's user."""
    password_file: FilePath
    """The file with its password, for its owner alone."""
    cipher_suite: Annotated[StrictInt, Field(ge=3, le=17)] = 17
    """The weakest cipher suite to accept: 17 (SHA-256), or 3 (SHA-1) for old BMCs."""
    port: Port = 623
    """The BMC's UDP port."""
    firmware: Literal["uefi", "bios"] = "uefi"
    """How the machine is to boot when the network is chosen."""


class RedfishPower(Model):
    """The machine has a BMC that speaks Redfish."""

    driver: Literal["redfish"]
    """redfish: the BMC's HTTPS interface."""
    address: HttpsUrl
    """The BMC's URL."""
    user: Pattern
    """The BMC's user."""
    password_file: FilePath
    """The file with its password, for its owner alone."""
    ca_file: FilePath | None = None
    """The CA certificate to check the BMC with."""
    system: Pattern | None = None
    """The system's id, if the BMC serves several."""


class PduPower(Model):
    """The machine hangs on an outlet of a switched power strip."""

    driver: Literal["pdu"]
    """pdu: a switched power strip."""
    address: Address
    """The strip's address."""
    outlet: Annotated[StrictInt, Field(ge=1, le=999)]
    """The outlet's number."""
    community_file: FilePath
    """The file with the SNMP community that may write, for its owner alone."""
    port: Port = 161
    """The strip's UDP port."""
    off_seconds: Annotated[StrictInt, Field(ge=0, le=300)] = 10
    """How long the outlet stays off in a cycle: power supplies hold on for seconds."""


class WebhookPower(Model):
    """Something of yours switches it when a URL is called."""

    driver: Literal["webhook"]
    """webhook: URLs of yours."""
    on: Url
    """Called with POST to switch on."""
    off: Url
    """Called with POST to switch off."""
    status: Url | None = None
    """Called with GET; answers on or off."""
    netboot: Url | None = None
    """Called with POST to boot from the network next."""
    token_file: FilePath | None = None
    """The file with a bearer token to send, for its owner alone."""


class WakeOnLanPower(Model):
    """The machine's network card wakes it up; nothing switches it off."""

    driver: Literal["wake-on-lan"]
    """wake-on-lan: a magic packet switches it on; it cannot be switched off."""
    broadcast: Address | None = None
    """Where the packet goes; without it, to the broadcast address of its `address`'s network, else of each."""
    port: Port = 9
    """The packet's UDP port."""


class CommandPower(Model):
    """Programs of yours switch it."""

    driver: Literal["command"]
    """command: programs of yours."""
    on: Words
    """The program that switches it on, and its arguments."""
    off: Words
    """The program that switches it off."""
    status: Words | None = None
    """The program that prints on or off."""
    netboot: Words | None = None
    """The program that chooses the network for the next boot."""
    pass_environment: Annotated[tuple[VariableName, ...], Field(max_length=64)] = ()
    """Environment variables of ours that the programs get too, beside PATH and LANG."""


Power = Annotated[
    ManualPower
    | LabPower
    | IpmiPower
    | RedfishPower
    | PduPower
    | WebhookPower
    | WakeOnLanPower
    | CommandPower,
    Field(discriminator="driver"),
]


class Machine(Model):
    """A machine that is to become a node."""

    name: Name
    """Its host name."""
    mac: Mac
    """The MAC address of the network card it boots from, as text."""
    pool: Name
    """The pool it belongs to."""
    address: Address | None = None
    """Its reserved address; without it, one of the DHCP range."""
    disk: Disk | None = None
    """The disk to install to, instead of the pool's rule."""
    boot_from_disk_method: BootFromDisk | None = None
    """How it goes on from its network boot to its disk, instead of the pool's way."""
    tftp: MachineTftp | None = None
    """How TFTP is spoken with it, instead of the pool's way."""
    power: Power | None = None
    """How it is switched on and off; without it a person is asked."""
