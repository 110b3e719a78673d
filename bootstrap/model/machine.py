"""A machine that the configuration lists, and how it is switched on and off."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from bootstrap.model.addresses import Address, AddressOrName, HttpsUrl, Url
from bootstrap.model.base import Model
from bootstrap.model.pool import Disk
from bootstrap.model.types import FilePath, Mac, Name, Pattern


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
    """The file with its password."""
    cipher_suite: Annotated[StrictInt, Field(ge=3, le=17)] = 17
    """The IPMI cipher suite."""


class RedfishPower(Model):
    """The machine has a BMC that speaks Redfish."""

    driver: Literal["redfish"]
    """redfish: the BMC's HTTPS interface."""
    address: HttpsUrl
    """The BMC's URL."""
    user: Pattern
    """The BMC's user."""
    password_file: FilePath
    """The file with its password."""
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
    """The file with the SNMP community."""


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
    token_file: FilePath | None = None
    """The file with a bearer token to send."""


Power = Annotated[
    ManualPower | LabPower | IpmiPower | RedfishPower | PduPower | WebhookPower, Field(discriminator="driver")
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
    power: Power | None = None
    """How it is switched on and off; without it a person is asked."""
