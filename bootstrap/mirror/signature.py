"""Asks gpgv whether a file is signed by one of exactly the keys that the user named; the only door to it."""

import base64
import binascii
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bootstrap.errors import MirrorError, PreflightError

SECONDS = 600.0
"""For an image of some gigabytes on a slow disk."""
NOT_INSTALLED = "gpgv is not installed; as root: apt-get install gpgv"
_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(?:[^\n]*: [^\n]*\n)*\s*?\n(.*?)(?:^=[^\n]*\n)?-----END PGP",
    re.DOTALL | re.MULTILINE,
)
"""Headers, an empty line, base64, a checksum that newer writers leave out (RFC 9580, section 6.2)."""
_STATUS = re.compile(r"^\[GNUPG:\] (\w+) ?(.*)$", re.MULTILINE)
_REFUSALS = {
    "BADSIG": "its signature is not of these bytes: the file or the signature was changed, or belongs to another",
    "EXPKEYSIG": "the key {key} that signed it has expired; put the maker's current keys into {keys}",
    "REVKEYSIG": "the key {key} that signed it was revoked by its owner; do not use this file",
    "EXPSIG": "its signature by {key} has expired; write a newer release",
    "ERRSIG": "it is signed by the key {key}, which is not in {keys}; add it there if it is the maker's",
    "NODATA": "what lies beside it is no signature; ask the server's owner",
}
"""What gpgv says of a signature that is not good (gnupg's doc/DETAILS), and what to do."""


def ready(keys: Path) -> None:
    """Raise PreflightError when gpgv is not installed, or `keys` holds no keys."""
    if shutil.which("gpgv") is None:
        raise PreflightError(NOT_INSTALLED)
    binary(keys)


def signer(name: str, content: Path, signature: Path, keys: Path) -> str:
    """Return the fingerprint of the key that signed `content`; all its signatures must be good.

    `name` is how an error calls the file; `keys` holds public keys, armored or not.

    Raises:
        MirrorError: a signature is bad, or by a key that is not in `keys`, expired or revoked.
        PreflightError: there is no gpgv, or `keys` holds no key.
    """
    with tempfile.TemporaryDirectory(prefix="firstlight-keys-") as home:
        ring = Path(home) / "keys.gpg"
        ring.write_bytes(binary(keys))
        said = _STATUS.findall(_gpgv(Path(home), ring, signature, content))
    for kind, rest in said:
        if kind in _REFUSALS:
            key = rest.split()[0] if rest else ""
            raise MirrorError(f"{name}: {_REFUSALS[kind].format(key=key, keys=keys)}; it was thrown away")
    good = {kind for kind, _ in said}
    if not {"GOODSIG", "VALIDSIG"} <= good:
        raise MirrorError(f"{name}: gpgv found no good signature; it was thrown away, so try again")
    return next(str(rest).split()[-1] for kind, rest in said if kind == "VALIDSIG")


def _gpgv(home: Path, ring: Path, signature: Path, content: Path) -> str:
    """Return what gpgv reports; SHA-1 has been forged, so no signature over one counts."""
    options = ("--homedir", f"{home}", "--keyring", f"{ring}", "--weak-digest", "SHA1", "--status-fd", "1")
    try:
        done = subprocess.run(
            ["gpgv", *options, "--", f"{signature.absolute()}", f"{content.absolute()}"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    except FileNotFoundError as error:
        raise PreflightError(NOT_INSTALLED) from error
    except subprocess.TimeoutExpired as error:
        raise PreflightError(
            f"gpgv did not end in {SECONDS:.0f} s on {content}; look at that disk"
        ) from error
    return done.stdout.decode(errors="replace")


def binary(keys: Path) -> bytes:
    """Return the keys as gpgv reads them.

    Raises:
        PreflightError: the file cannot be read, or holds none.
    """
    try:
        content = keys.read_bytes()
    except OSError as error:
        raise PreflightError(
            f"{keys} cannot be read: {error.strerror}; put the maker's public keys there"
        ) from error
    if b"-----BEGIN" not in content:
        found = content
    else:
        try:
            found = b"".join(
                base64.b64decode(b"".join(m.split()), validate=True) for m in _ARMOR.findall(content)
            )
        except binascii.Error:
            found = b""
    # A public key packet, old or new format (RFC 9580, section 4.2).
    if found[:1] not in {b"\x98", b"\x99", b"\x9a", b"\xc6"}:
        raise PreflightError(f"{keys} holds no public key; put the file there that the maker publishes")
    return found
