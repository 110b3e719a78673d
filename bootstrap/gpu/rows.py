"""What the rows of the table of GPU facts say."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

_NUMBER = re.compile(r"[0-9]{1,9}")
"""A part of a version: none has more digits, and Python makes no number of thousands."""


class Flavour(StrEnum):
    """The two kinds of NVIDIA's kernel modules; each release of the driver is made with both or one of them."""

    OPEN = "open"
    CLOSED = "closed"


BOTH = frozenset(Flavour)
ONLY_OPEN = frozenset({Flavour.OPEN})
ONLY_CLOSED = frozenset({Flavour.CLOSED})


class Route(StrEnum):
    """How a driver gets onto a node: prebuilt with the system, as Debian packages, or compiled at the first boot."""

    SYSEXT = "sysext"
    PACKAGES = "packages"
    SERVICE = "nvidia.service"


@dataclass(frozen=True, kw_only=True)
class Generation:
    """An architecture: the first and the last driver branch for it (None: the newest still is), and its CUDA versions.

    `flavours` are the kernel modules that can drive it. `first_cuda` is the first toolkit that compiles for it,
    `last_cuda` the last one.
    """

    name: str
    first: int
    last: int | None
    first_cuda: str
    last_cuda: str | None
    flavours: frozenset[Flavour]


@dataclass(frozen=True, kw_only=True)
class Product:
    """A GPU as NVIDIA sells it; `key` is its name in config.yaml, `ids` its PCI device ids in lower-case hex.

    `first` and `first_cuda` are its own where it came later than its generation; `first_mig` is the first driver branch
    that can part it (0: none can). `is_switched` says that NVSwitches link the GPUs of a board of eight. `host` is the
    processor that it is built together with or made for.
    """

    key: str
    name: str
    generation: Generation
    ids: tuple[str, ...]
    first_mig: int
    first: int
    first_cuda: str
    is_switched: bool
    host: str

    @property
    def has_mig(self) -> bool:
        """Return whether it can be parted (MIG)."""
        return self.first_mig > 0

    @property
    def last(self) -> int | None:
        """Return the last driver branch for it; None: the newest still is."""
        return self.generation.last


@dataclass(frozen=True)
class Cuda:
    """A CUDA version and the driver that its toolkit was released with, which is the oldest that runs all of it."""

    version: str
    driver: str

    @property
    def branch(self) -> int:
        """Return the driver's branch: 570 of 570.26."""
        return int(self.driver.partition(".")[0])


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one family of operating systems gets one branch in one flavour.

    `since` is the first release that has it, `seen` the newest that was looked at; `only` means `since` and no later.
    `names` are the sysexts or the packages, of which the first holds the source of the modules; `more` are those that
    an image gets besides. `suite` is Debian's suite and area, `version` the driver's where it is known. `built` is the
    kernel that the modules were seen to build for, `broken` what was seen to stop them.
    """

    family: str
    since: str
    only: bool = False
    seen: str = ""
    branch: int
    flavour: Flavour
    route: Route
    names: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    suite: str = ""
    version: str = ""
    built: str = ""
    broken: str = ""

    def is_later(self, release: str) -> bool:
        """Return whether `release` is later than any that was looked at: whether it is offered there is not known."""
        seen = numbers(self.seen)
        return bool(self.seen) and numbers(release)[: len(seen)] > seen

    def is_like(self, other: "Source") -> bool:
        """Return whether it is the same branch of the same release, in whichever flavour."""
        return (self.family, self.since, self.branch) == (other.family, other.since, other.branch)

    @property
    def title(self) -> str:
        """Return what people call it, and what images are told apart by: `535 (closed)`."""
        return f"{self.branch} ({self.flavour})"


def title_of(loaded: str) -> str:
    """Return the title of a loaded driver: `570 (open)` of `570.133.20 (open)`; empty for none."""
    version, _, flavour = loaded.partition(" ")
    return f"{version.partition('.')[0]} {flavour}" if flavour else ""


@cache
def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version (4593.2.5, 12.8), to compare by; none for what is no version (a channel)."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(_NUMBER.fullmatch(part) for part in parts) else ()
