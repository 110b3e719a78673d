"""What machines say in a body: limited before it is parsed, typed, and only what is listed here is kept."""

import json
import re
from functools import cache
from typing import Annotated, Any, Literal, NoReturn

from flask import request
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from bootstrap.model import mac_from
from bootstrap.records.inventory import Card, Gpu, Inventory
from bootstrap.records.model import DiskChoice
from bootstrap.records.said import Bytes, Count, Line, Said, Word, clean
from web.answers import Refusal

SMALL_BODY = 64 * 1024
FACTS_BODY = 1024 * 1024  # a machine with hundreds of disks
DEEPEST_JSON = 25

_SSH_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]{1,48} [A-Za-z0-9+/=]{16,4096}")
ARM = r"^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$"

MacAddress = Annotated[str, BeforeValidator(mac_from)]
SshHostKey = Annotated[str, Field(pattern=f"^{_SSH_KEY.pattern}$")]
Firmware = Literal["bios", "uefi"]


class SaidDisk(Said):
    """The disk that an installer chose."""

    path: Word = ""
    serial: Word = ""
    wwn: Word = ""
    model: Word = ""
    size: Bytes = 0

    def choice(self) -> DiskChoice | None:
        """Return it as it is recorded; None if it names nothing."""
        return DiskChoice(**self.model_dump(include=set(DiskChoice.model_fields))) if self.path else None


class FoundDisk(SaidDisk):
    """A disk that an installer found."""

    type: Word = ""
    removable: bool | None = None
    read_only: bool | None = None
    sector_size: Annotated[int, Field(ge=0, le=2**20)] | None = None
    by_path: Annotated[tuple[Word, ...], Field(max_length=64)] = ()


class Facts(Said):
    """What an installer found in the machine."""

    firmware: Firmware | None = None
    secure_boot: bool | None = None
    serial: Word = ""
    uuid: Word = ""
    vendor: Word = ""
    product: Word = ""
    kernel: Word = ""
    cpus: Count | None = None
    memory: Bytes | None = None
    disks: Annotated[tuple[FoundDisk, ...], Field(max_length=1024)] = ()
    cards: Annotated[tuple[Card, ...], Field(max_length=64)] = ()
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=64)] | None = None  # None: it did not look


NO_FACTS = Facts()
_OF_FACTS = frozenset(name for key in Facts.model_fields for name in (key, to_camel(key)))


class FoundSystem(Said):
    """What our marker on the chosen disk says: whose system it holds, and of which arm."""

    cluster: Word = ""
    machine: Word = ""
    arm: Word = ""
    state: Word = ""


class Begin(Said):
    """The request for one write pass; `nonce` tells a repetition from a second request.

    `system` is what stands on the disk, if it is ours.
    """

    mac: MacAddress
    arm: Annotated[str, Field(pattern=ARM)]
    facts: Facts = Facts()
    disk: SaidDisk = SaidDisk()
    system: FoundSystem = FoundSystem()
    nonce: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$")] | None = None


class Report(Said):
    """What an installer or an installed system tells; facts and the disk come beside the other keys."""

    mac: MacAddress
    arm: Annotated[str, Field(pattern=ARM)]
    kind: Literal["facts", "progress", "complete", "already-installed", "attempt-failed", "failed", "booted"]
    stage: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,32}$")] = ""
    percent: Annotated[int, Field(ge=0, le=100)] = 0
    message: Line = ""
    address: Word = ""
    firmware: Firmware | None = None
    ssh_host_keys: Annotated[tuple[SshHostKey, ...], Field(max_length=16)] = ()
    facts: Facts | None = None


class Found(Said):
    """What a machine that nobody listed tells of itself."""

    mac: MacAddress
    image: Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")] = ""
    address: Word = ""
    inventory: Inventory


class Acceptance(Said):
    """What an operator says of a machine to accept; without a name it gets one from its MAC address."""

    pool: str = ""
    name: str = ""
    resolve: bool = False
    recheck: bool = False


class Sighting(Said):
    """What pxe saw on the wire; `arch` is DHCP option 93, `server` the address of a strange DHCP server."""

    mac: MacAddress | Literal[""] = ""
    kind: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    detail: Line = ""
    arch: Annotated[int, Field(ge=0, le=65535)] | None = None
    server: Annotated[str, Field(pattern=r"^[0-9.]{0,15}$")] = ""
    at: Annotated[float, Field(ge=0, le=2**40)] | None = None


def said(kind: Any, *, limit: int = SMALL_BODY) -> tuple[Any, dict[str, Any] | list[Any]]:
    """Return the request's body as a `kind`, and as the bare JSON value.

    Raises:
        Refusal: 413 if it is longer than `limit` bytes, 400 if it is no JSON or no `kind`.
    """
    value = json_from(_body(limit))
    return typed(kind, value), value


def facts_beside(body: Any) -> Facts:
    """Return the facts that stand beside a report's own keys; raises Refusal as `typed`."""
    facts: Facts = NO_FACTS if _OF_FACTS.isdisjoint(body) else typed(Facts, body)
    return facts


def typed(kind: Any, value: Any) -> Any:
    """Return `value` as a `kind`; raises Refusal 400 with the first thing that is wrong."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise Refusal(400, _first_problem(error)) from error


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what parses a `kind`; it costs more to make than to use."""
    return TypeAdapter(kind)


def _body(limit: int) -> bytes:
    # Werkzeug stops reading at this length also where the header lies about it.
    request.max_content_length = limit
    return request.get_data(cache=False)


def json_from(body: bytes) -> Any:
    """Return the JSON value in `body`.

    Raises:
        Refusal: 400 if it is no JSON in UTF-8 (RFC 8259: NaN is none), or nested deeper than DEEPEST_JSON.
    """
    try:
        value = _DECODER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "the body is not JSON") from error
    layer, depth = [value], 0
    while layer and depth <= DEEPEST_JSON:
        layer = [inner for outer in layer for inner in _inside(outer)]
        depth += 1
    if layer:
        raise Refusal(400, f"the body is nested deeper than {DEEPEST_JSON}")
    return value


def _inside(value: Any) -> list[Any]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _first_problem(error: ValidationError) -> str:
    """Return where and what, without the value: it may be anything."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"][:4])
    return clean(f"{where}: {first['msg']}", 200)
