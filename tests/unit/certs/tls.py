"""TLS handshakes between issued pairs, in memory: what nginx, etcd and the API server will do."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ENOUGH = 10  # a TLS 1.2 or 1.3 handshake with certificates on both sides takes four rounds


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Whose certificate a side shows (None: none), and which authority it trusts; both from a folder of keys."""

    folder: Path
    shows: str | None
    trusts: str
    trusted_folder: Path | None = None

    def context(self, protocol: int, version: ssl.TLSVersion) -> ssl.SSLContext:
        """A context as strict as Python 3.13's: RFC 5280 is checked to the letter."""
        context = ssl.SSLContext(protocol)
        context.minimum_version = context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations((self.trusted_folder or self.folder) / f"{self.trusts}.crt")
        if self.shows is not None:
            context.load_cert_chain(self.folder / f"{self.shows}.crt", self.folder / f"{self.shows}.key")
        return context


def handshake(server: Pair, client: Pair, name: str, version: ssl.TLSVersion) -> tuple[str, str]:
    """Shake hands for the server called `name`, send a byte each way; return the CNs that each side saw.

    Raises ssl.SSLError if either side refuses the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.context(ssl.PROTOCOL_TLS_SERVER, version).wrap_bio(to_server, to_client, server_side=True)
    two = client.context(ssl.PROTOCOL_TLS_CLIENT, version).wrap_bio(
        to_client, to_server, server_hostname=name
    )
    _until_done(two.do_handshake, one.do_handshake)
    # In TLS 1.3 the client is done before the server has judged it; its word only comes with the data.
    two.write(b"x")
    _until_done(lambda: one.read(1))
    one.write(b"y")
    _until_done(lambda: two.read(1))
    return _common_name(one), _common_name(two)


def _until_done(*acts: Callable[[], object]) -> None:
    left = list(acts)
    for _ in range(ENOUGH):
        left = [act for act in left if not _is_done(act)]
    if left:
        raise ssl.SSLError("the handshake hangs")


def _is_done(act: Callable[[], object]) -> bool:
    try:
        act()
    except ssl.SSLWantReadError:
        return False
    return True


def _common_name(side: ssl.SSLObject) -> str:
    certificate = side.getpeercert() or {}
    subject: tuple[tuple[tuple[str, str], ...], ...] = certificate["subject"]  # type: ignore[assignment]
    return dict(pair for group in subject for pair in group)["commonName"]
