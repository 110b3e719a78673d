"""Bytes that must not be seen: private keys and passphrases."""

import hmac
from typing import NoReturn, SupportsIndex, final

SHOWN = "<secret>"


@final
class Secret:
    """Holds bytes that no text, template, log, JSON or pickle can take up by accident.

    Only `reveal()` gives the bytes. `repr` shows `<secret>`, for logs and tracebacks; every other way to text
    or bytes raises TypeError.
    """

    __slots__ = ("_content",)
    __hash__ = None  # type: ignore[assignment]  # a dict of secrets would keep them by a guessable number

    _content: bytes

    def __init__(self, content: bytes) -> None:
        if not isinstance(content, bytes):
            raise TypeError("a Secret is made of bytes")
        object.__setattr__(self, "_content", content)

    def reveal(self) -> bytes:
        """Return the bytes; call this only where they leave for a file or a cipher."""
        return self._content

    def __repr__(self) -> str:
        return SHOWN

    def __str__(self) -> NoReturn:
        raise TypeError("a Secret is not text")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("a Secret is not text")

    def __bytes__(self) -> NoReturn:
        raise TypeError("a Secret gives its bytes only by reveal()")

    def __iter__(self) -> NoReturn:
        raise TypeError("a Secret cannot be read piece by piece")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret never changes")

    def __eq__(self, other: object) -> bool:
        """Compare in a time that does not depend on the content."""
        return isinstance(other, Secret) and hmac.compare_digest(self._content, other._content)
