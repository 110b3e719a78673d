"""What a key store holds once it is in order: certificates for everyone, private keys as Secrets."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from certs.secret import Secret


class Did(enum.Enum):
    """What was done for a row."""

    MADE = "made"
    REISSUED = "re-issued"
    SEALED = "encrypted"
    TIGHTENED = "tightened"
    KEPT = "kept"


@dataclass(frozen=True)
class Change:
    """What was done for the row called `name`, and why."""

    name: str
    did: Did
    reason: str = ""

    def __str__(self) -> str:
        """Return one line for people."""
        return (
            f"{self.did.value} {self.name}: {self.reason}" if self.reason else f"{self.did.value} {self.name}"
        )


@dataclass(frozen=True)
class PublicKeyring:
    """Certificates and public keys only; the only keyring that renderers of public documents take.

    `certificates` and `public_keys` map a row's name (`provisioning/ca`, `sa`) to PEM.
    """

    certificates: Mapping[str, bytes]
    public_keys: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in ("certificates", "public_keys"):
            content = dict(getattr(self, name))
            _refuse_private(content)
            object.__setattr__(self, name, MappingProxyType(content))


@dataclass(frozen=True, kw_only=True)
class Keyring:
    """All that rendering for the operator's own hosts needs; CA keys never leave the key store but for one.

    `keys` maps the name of a leaf, a key pair or an authority that is on hosts to its private key in PEM (PKCS#8).
    """

    public: PublicKeyring
    keys: Mapping[str, Secret] = field(repr=False)
    changes: tuple[Change, ...] = ()

    @property
    def certificates(self) -> Mapping[str, bytes]:
        """Public certificates in PEM by row name."""
        return self.public.certificates

    @property
    def news(self) -> tuple[Change, ...]:
        """The changes that changed something; empty when everything was kept."""
        return tuple(change for change in self.changes if change.did is not Did.KEPT)


def _refuse_private(content: Mapping[str, object]) -> None:
    for name, value in content.items():
        if not isinstance(value, bytes) or b"PRIVATE" in value:
            raise TypeError(f"{name}: only public PEM may enter a public keyring")
