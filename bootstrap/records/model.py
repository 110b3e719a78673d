"""The records themselves: frozen values that become JSON in the store."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from bootstrap.states import State

MOST_ATTEMPTS = 3  # write passes per arm: a disk is never wiped in an endless loop


class Record(BaseModel):
    """A frozen value with camelCase JSON; unknown keys of a later version are dropped when it is read."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """Return the JSON text; values that are at their default are left out."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Self:
        """Return the record that `to_bytes` wrote."""
        return cls.model_validate_json(text)

    def but(self, **changes: object) -> Self:
        """Return a copy with `changes`; the values are ours and not checked again."""
        return self.model_copy(update=changes)


class Introduction(Record):
    """What a machine's firmware said of itself in its last network boot: claims, not proof."""

    uuid: str = ""
    serial: str = ""
    arch: str = ""
    platform: str = ""
    manufacturer: str = ""
    product: str = ""


class Evidence(Record):
    """What tells a machine from others, as far as it is worth anything (bootstrap/records/evidence.py).

    `serial` begins with the maker's name; both are in lower case and empty if there is none.
    """

    uuid: str = ""
    serial: str = ""


class DiskChoice(Record):
    """The disk that the installer said it will write; `size` in bytes."""

    path: str = ""
    serial: str = ""
    wwn: str = ""
    model: str = ""
    size: int = 0


class Claim(Record):
    """The one key that may be the node `node`, and what came of it; keys are fingerprints (certs/requests.py).

    `key` is the key that the machine made and claimed with, `renewed` the one that its kubelet has since changed to
    (empty: none). `issue` counts the requests filed for `key`; `expires_at` is when the newest certificate ends.
    `message` says what the node waits for, or what the cluster says of it.
    """

    node: str
    key: str
    bound_at: datetime
    renewed: str = ""
    issue: int = 1
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    message: str = ""


class Running(Record):
    """What an installed machine says that it runs: the `revision` of its served documents, and since when.

    `is_rolled_back` says that it went back to an earlier revision because of `reason`; `drift` are our files that
    another changed there, and foreign ones beside them.
    """

    revision: str
    since: datetime
    is_rolled_back: bool = False
    reason: str = ""
    drift: str = ""


class GpuRecord(Record):
    """What is known of a node's GPUs (bootstrap/gpu): its own word on them, and the gate's.

    `state` and `reason` are what it said last, `since` when that state began. `seen` are the addresses of its GPUs,
    `gone` those that were seen and are there no more. `part` is what holds it back at the gate, `verdict` all that the
    gate says; `passed_at` is when it was let through. `verified` is the driver with which it came through last under
    its arm, `570.133.20 (open)`: it is right for this node until somebody orders another one.
    """

    state: str = ""
    reason: str = ""
    since: datetime
    seen: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    part: str = ""
    verdict: str = ""
    passed_at: datetime | None = None
    verified: str = ""


class Pin(Record):
    """What a machine has in place of what its pool gets, after an upgrade of its driver was taken back (gpu upgrade).

    `driver` is the title of a driver, `535 (closed)`; `image` the key of the image that holds it, empty where the
    driver is in none.
    """

    driver: str
    image: str = ""


class SignedReport(Record):
    """A node's word on its GPUs as it came: the text, and its signature over it (ECDSA with SHA-256, DER, base64).

    `certificate` is the node's in PEM, whose key has signed; so that anybody can check it, later too. `verdict` is what
    the gate made of it.
    """

    report: str
    signature: str
    certificate: str
    heard_at: datetime
    verdict: str = ""


class Loop(Record):
    """How often a machine was told to install without getting any further (bootstrap/explain/breaker.py).

    `boots` counts the boots since the last look at its events, of which `last` began last. Since `since` it gets the
    rescue page, which says `lines`, and not before `again` another try. Both are None while all is well.
    """

    boots: int = 0
    last: datetime | None = None
    since: datetime | None = None
    again: datetime | None = None
    lines: tuple[str, ...] = ()


class MachineRecord(Record):
    """A machine of the configuration: its state and what was seen of it.

    `arm` is the id of the permission to write its disk; `attempts` counts the write passes granted under it.
    `settled` is the number of the event that ended the arm: a report that comes twice gets it as its answer.
    `answered` is what its last network boot got. `claim` is bound under the current arm, or None; `former_until` is
    when the last certificate of earlier arms ends, which anybody may hold who had the machine's disk.

    `evidence` and `cards` are what it was known by since it was accepted, `ignored` the values of which the operator
    said that they tell nothing, `clash` what contradicts them while it runs from its disk. `erases_system` says that
    an operator has allowed this arm to erase a system of ours, `keeps_system` that such a one was found and kept.
    `gpu` is None until its node has told of its GPUs. `pin` holds over its arms, until an upgrade takes it away.
    """

    mac: str
    name: str
    state: State = State.ACCEPTED
    since: datetime
    reason: str = ""
    arm: str | None = None
    attempts: int = 0
    begun: str | None = None
    settled: int = 0
    firmware: str | None = None
    address: str | None = None
    disk: DiskChoice | None = None
    stage: str | None = None
    percent: int | None = None
    message: str = ""
    contact_at: datetime | None = None
    booted_at: datetime | None = None
    ssh_host_keys: tuple[str, ...] = ()
    ssh_answers: bool = False
    is_stuck: bool = False
    said: Introduction = Introduction()
    answered: str = ""
    claim: Claim | None = None
    former_until: datetime | None = None
    running: Running | None = None
    evidence: Evidence = Evidence()
    cards: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    clash: str = ""
    erases_system: bool = True
    keeps_system: bool = False
    loop: Loop = Loop()
    gpu: GpuRecord | None = None
    pin: Pin | None = None

    @property
    def access_until(self) -> datetime | None:
        """Return when the last certificate with its node's name ends; None if there never was one."""
        ends = (self.former_until, self.claim.expires_at if self.claim else None)
        return max((end for end in ends if end is not None), default=None)


class Alarm(Record):
    """Something wrong with the network that no machine's record shows; `identity` tells it from others."""

    identity: str
    kind: str
    text: str
    first_seen: datetime
    last_seen: datetime


class Stranger(Record):
    """A machine that the configuration does not list.

    `contradiction` is in what it once differed from its own `evidence`; `cards` are the MAC addresses that its
    inventory named, `address` is where it said it is.
    """

    mac: str
    first_seen: datetime
    last_seen: datetime
    boots: int = 1
    said: Introduction = Introduction()
    evidence: Evidence = Evidence()
    contradiction: str = ""
    cards: tuple[str, ...] = ()
    address: str = ""


class Accepted(Record):
    """A machine that an operator accepted, or a pool by its `match`: what the configuration would say of it."""

    mac: str
    name: str
    pool: str
    address: str = ""


class Event(Record):
    """One entry of the audit log: when, who, which machine, what, what was decided and why.

    `who` is the machine itself, operator, pxe or appliance.
    """

    seq: int = 0
    time: datetime
    who: str
    machine: str
    what: str
    decision: str = ""
    reason: str = ""
    detail: str = ""
