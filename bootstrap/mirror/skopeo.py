"""Brings container images out of registries with skopeo; the only door to it."""

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bootstrap.errors import ImageError, MirrorError, PreflightError, printable
from bootstrap.image.command import run
from bootstrap.mirror import oci
from bootstrap.progress import Progress

ASK_SECONDS = 120.0
LONGEST_COPY = "2h"
SITE_POLICY = Path("/etc/containers/policy.json")
OWN_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
"""For a computer without a policy: the digest says what is accepted."""
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""What a killed pull leaves at work would write where the next one tidies up."""
_FULL = "no space left on device"
"""How programs in Go call ENOSPC."""


def ready() -> None:
    """Raise PreflightError when skopeo is not installed."""
    if shutil.which("skopeo") is None:
        raise PreflightError("skopeo is not installed; as root: apt-get install skopeo")


def fetch(url: str, name: str, target: Path, ca: Path | None, progress: Progress) -> None:
    """Bring the image at `url` (docker://place@digest) to the archive `target`; nodes will call it `name`.

    Raises:
        MirrorError: the registry cannot be reached, refuses, or sends something else.
        OSError: the disk does not take it.
    """
    place, _, digest = url.partition("@")
    with tempfile.TemporaryDirectory(prefix=f"{target.name}-", dir=target.parent) as folder:
        trust = _trust(Path(folder), ca)
        wanted = oci.instance(name, _document(url, name, trust), digest)
        progress(f"fetching {name}")
        copied = Path(folder) / "image"
        argv = (*_skopeo(Path(folder)), "copy", "--preserve-digests", *(f"--src-{word}" for word in trust))
        try:
            run((*argv, f"{place}@{wanted}", f"dir:{copied}"), on_line=lambda _: progress(f"fetching {name}"))
        except ImageError as error:
            last = printable(str(error).splitlines()[-1])
            if _FULL in last:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{target}") from error
            raise MirrorError(f"{name}: {url} cannot be fetched: {last}; run mirror pull again") from error
        oci.pack(copied, name, wanted, target)


def _document(url: str, name: str, trust: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="firstlight-policy-") as folder:
        argv = (*_skopeo(Path(folder)), "inspect", "--raw", *(f"--{word}" for word in trust), url)
        try:
            done = subprocess.run(
                argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise MirrorError(
                f"{name}: no answer from {url} in {ASK_SECONDS:.0f} s; is its registry up?"
            ) from error
    if done.returncode != 0:
        last = printable(
            (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        )
        raise MirrorError(f"{name}: {url} cannot be asked: {last}; see mirror.registries and mirror.caFile")
    return done.stdout


def _skopeo(folder: Path) -> tuple[str, ...]:
    """Return the words before a verb; `folder` is for files that it reads."""
    words = (*_ENDS_WITH_US, "skopeo", "--command-timeout", LONGEST_COPY)
    if SITE_POLICY.exists():
        return words
    policy = folder / "policy.json"
    policy.write_text(OWN_POLICY)
    return (*words, "--policy", f"{policy}")


def _trust(folder: Path, ca: Path | None) -> tuple[str, ...]:
    """Return the option that names the authority of registries, without its dashes."""
    if ca is None:
        return ()
    certificates = folder / "certificates"
    certificates.mkdir()
    shutil.copyfile(ca, certificates / "ca.crt")
    return (f"cert-dir={certificates}",)
