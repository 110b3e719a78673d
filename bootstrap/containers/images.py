"""The two images: which are wanted, what names them, and how they are built here."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.containers.engine import Engine
from bootstrap.containers.table import CONTAINERS, Name
from bootstrap.environment import ROOT
from bootstrap.errors import ImageError
from bootstrap.model import Cluster
from bootstrap.progress import Progress

SHARED = ("requirements.lock", "bootstrap", "certs", "configs")
"""What goes into both images, besides the room of each and its Dockerfile."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
CA_FILE = Path("/etc/ssl/certs/ca-certificates.crt")
SECRETS = Path("/run/secrets")
"""Where a build sees its secrets."""
KEY_DIGITS = 12
ASK_SECONDS = 30.0

_APT = re.compile(r"^Acquire::(?:https?::(?:Proxy|Timeout)\b|Retries\b)[^ ]* \"[^\"]+\";$", re.MULTILINE)
_PIP = re.compile(
    r"^(?:global|install|:env:)\.(?P<key>index-url|extra-index-url|trusted-host|proxy|timeout)='(?P<value>[^']+)'$",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Image:
    """The image of one container; `is_given` are those of the configuration, which are not built here."""

    name: Name
    tag: str
    is_given: bool


def wanted(cluster: Cluster) -> Mapping[Name, Image]:
    """Return the images that the configuration names, else those that belong to this checkout.

    The tag of one that is built here holds the sum of all that goes in: what is there under it is right.
    """
    given: dict[Name, str | None] = {
        "web": cluster.appliance.containers.web,
        "pxe": cluster.appliance.containers.pxe,
    }
    return {name: _wanted(name, given[name], cluster.appliance.containers.base) for name in CONTAINERS}


def _wanted(name: Name, given: str | None, base: str) -> Image:
    tag = given or f"localhost/firstlight-{name}:{key(name, base)}"
    return Image(name=name, tag=tag, is_given=given is not None)


def key(name: Name, base: str, root: Path = ROOT) -> str:
    """Return what names all that goes into an image: its Dockerfile, the base's name, and every file."""
    digest = hashlib.sha256(base.encode())
    for path in sorted(_sources(name, root)):
        digest.update(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:KEY_DIGITS]


def _sources(name: Name, root: Path) -> Iterator[Path]:
    for top in (f"Dockerfile.{name}", ".dockerignore", name, *SHARED):
        path = root / top
        files = path.rglob("*") if path.is_dir() else iter((path,))
        yield from (file for file in files if file.is_file() and file.suffix != ".pyc")


def ensure(cluster: Cluster, engine: Engine, progress: Progress) -> tuple[str, ...]:
    """Build the images that are wanted and not there; return a line for each that was built.

    Raises:
        ImageError: one could not be built, or one that the configuration names is not on this computer.
    """
    lines = []
    for image in wanted(cluster).values():
        if engine.has_image(image.tag):
            continue
        if image.is_given:
            raise ImageError(
                f"appliance.containers.{image.name}: {image.tag} is not on this computer; bring it:"
                f" {engine.dialect.name} pull {image.tag}"
            )
        began = time.monotonic()
        _build(image, cluster, engine, progress)
        seconds, size = time.monotonic() - began, engine.size(image.tag) / 1e6
        lines.append(f"{image.name}: {image.tag}, {size:.0f} MB, built in {seconds:.0f} s")
    return tuple(lines)


def _build(image: Image, cluster: Cluster, engine: Engine, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="firstlight-build-") as folder:
        engine.build(
            file=ROOT / f"Dockerfile.{image.name}",
            tag=image.tag,
            arguments={"BASE": cluster.appliance.containers.base, "REVISION": image.tag.rpartition(":")[2]},
            secrets=_secrets(Path(folder), cluster.images.debian.mirror),
            proxies=[name for name in PROXIES if os.environ.get(name)],
            progress=progress,
        )


def _secrets(folder: Path, mirror: str | None) -> Mapping[str, Path]:
    """Write how this computer reaches its package registries into `folder`, for the build to see and not to keep."""
    has_ca = CA_FILE.is_file()
    sources = f"deb {mirror} trixie main\n" if mirror else ""
    texts = {
        "apt": apt_conf(_said("apt-config", "dump"), has_ca=has_ca, has_sources=bool(mirror)),
        "ca": CA_FILE.read_text() if has_ca else "",
        "pip": pip_conf(_said(sys.executable, "-m", "pip", "config", "list")),
        "sources": sources,
    }
    paths = {name: folder / name for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
        paths[name].chmod(0o600)
    return paths


def apt_conf(dump: str, *, has_ca: bool, has_sources: bool) -> str:
    """Return an apt.conf with the proxies, limits and retries of `dump`, the output of `apt-config dump`; pure."""
    lines = _APT.findall(dump)
    if has_ca:
        lines.append(f'Acquire::https::CAInfo "{SECRETS}/ca";')
    if has_sources:
        lines += [f'Dir::Etc::sourcelist "{SECRETS}/sources";', 'Dir::Etc::sourceparts "-";']
    return "".join(f"{line}\n" for line in lines)


def pip_conf(listed: str) -> str:
    """Return a pip.conf with the registries and proxy of `listed`, the output of `pip config list`; pure.

    Folders of this computer are left out: a build does not see them. What the environment says comes last there, and
    counts.
    """
    found: dict[str, str] = {}
    for match in _PIP.finditer(listed):
        words = [word for word in match["value"].replace("\\n", " ").split() if not word.startswith("file:")]
        if words:
            found[match["key"]] = " ".join(words)
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(found.items()))


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=ASK_SECONDS).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""  # not a Debian, or a Python without pip: the build uses what the base image knows
