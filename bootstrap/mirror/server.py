"""Asks the makers' servers, and believes only what is signed or comes over https."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bootstrap import download
from bootstrap.errors import MirrorError, PreflightError
from bootstrap.mirror import signature
from bootstrap.mirror.item import SIGNATURE, Digest
from bootstrap.progress import Progress

LONGEST_SIGNATURE = 64 * 1024


@dataclass(frozen=True)
class Server:
    """The way to every server; `base` is where relative paths begin, `ca_file` the authority to check them with.

    It is an Ask, as sources want one.
    """

    base: Path
    ca_file: str | None = None

    @property
    def ca(self) -> Path | None:
        """Return the file of the authority; raises PreflightError when it cannot be read."""
        if self.ca_file is None:
            return None
        path = self.base / self.ca_file
        if not path.is_file():
            raise PreflightError(f"mirror.caFile: there is no file {path}; write where the certificate is")
        return path

    def stated(self, url: str, *, remedy: str, longest: int = download.LONGEST_TEXT) -> str:
        """Return the text at `url`; raises PreflightError when nothing proves it, and `remedy` says what would."""
        if not url.startswith("https://"):
            raise PreflightError(f"{url} is no https, so what it says may be anybody's; {remedy}")
        return download.fetch_text(url, longest=longest, ca=self.ca)

    def signed(self, url: str, keys: str | None) -> str:
        """Return the text at `url`; raises MirrorError when its signature is not by one of `keys`."""
        content = download.fetch_bytes(url, ca=self.ca)
        with tempfile.TemporaryDirectory(prefix="firstlight-text-") as folder:
            text, sig = Path(folder) / "text", Path(folder) / "sig"
            text.write_bytes(content)
            sig.write_bytes(self.signature(url))
            signature.signer(url, text, sig, self.keys(keys))
        return content.decode(errors="replace")

    def signed_if_there(self, url: str, keys: str | None) -> str:
        """Return the text at `url`; only a missing signature of an https server is forgiven."""
        if url.startswith("https://") and download.size_of(url + SIGNATURE, ca=self.ca) is None:
            return download.fetch_text(url, ca=self.ca)
        return self.signed(url, keys)

    def signature(self, url: str) -> bytes:
        """Return the detached signature of what is at `url`; raises PreflightError when there is none."""
        return download.fetch_bytes(url + SIGNATURE, longest=LONGEST_SIGNATURE, ca=self.ca)

    def keys(self, keys: str | None) -> Path:
        """Return the file of a maker's keys."""
        if keys is None:
            raise MirrorError("no file of public keys is configured; add it to mirror.keys")
        return self.base / keys

    def size(self, url: str) -> int | None:
        """Return how many bytes are at `url`, if its server says so."""
        return download.size_of(url, ca=self.ca)

    def fetch(self, url: str, target: Path, digest: Digest, progress: Progress) -> None:
        """Bring `url` to `target`; raises as `download.fetch`."""
        download.fetch(url, target, digest.hex, progress, algorithm=digest.algorithm, ca=self.ca)
