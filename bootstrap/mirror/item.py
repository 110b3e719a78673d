"""What the mirror should have: things by version, and the files that each is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

SIGNATURE = ".sig"
"""How the name of a detached signature ends, beside the file that it signs."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One thing that a configuration needs, before any server was asked.

    `source` is the file in sources/ that knows how; `name` and `version` say what. With `is_channel` the version is
    a channel, whose newest release its server knows. `url` is where it begins. `keys` is the file of the maker's
    public keys; `sha256` a sum that the configuration states.
    """

    source: str
    name: str
    version: str
    url: str
    is_channel: bool = False
    keys: str | None = None
    sha256: str | None = None

    @property
    def key(self) -> str:
        """Return what the lock files it under: kubernetes/kubelet/v1.36.4."""
        return f"{self.source}/{self.name}/{self.version}"

    @property
    def line(self) -> str:
        """Return what versions of it succeed each other: flatcar/flatcar/stable."""
        return f"{self.source}/{self.name}/{self.version if self.is_channel else ''}"


@dataclass(frozen=True)
class Digest:
    """A sum of a file: `algorithm` sha256 or sha512, `hex` in lower case."""

    algorithm: str
    hex: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file to fetch, as its server describes it.

    `path` is where it goes below the mirror's folder. With `is_signed` a detached signature is at `url` + .sig.
    `members` are files inside of an archive, by name there, and the paths where they go too.
    """

    path: str
    url: str
    digest: Digest
    is_signed: bool = False
    mode: int = 0o644
    members: Mapping[str, str] = field(default_factory=dict)


class Ask(Protocol):
    """What a source may ask the makers' servers; each answer raises a FirstlightError when it cannot be believed."""

    def stated(self, url: str, *, remedy: str, longest: int = 4096) -> str:
        """Return the text at `url`, which only https makes believable; `remedy` says what to do without."""

    def signed(self, url: str, keys: str | None) -> str:
        """Return the text at `url`, whose detached signature at `url` + .sig is by one of `keys`."""

    def signed_if_there(self, url: str, keys: str | None) -> str:
        """Return the text at `url`; only https makes it believable where there is no signature beside it."""
