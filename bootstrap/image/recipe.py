"""What goes into an image, and the key that names all of it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bootstrap.errors import ImageError

FAMILY = "debian"
BUILDER = Path("builder.py")  # serves images and hosts
SUITES = {"13": "trixie"}
FLAVOURS = ("cloud", "server")
TEXTS = Path(__file__).parents[2] / "configs" / "image"
CODE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the configuration says about an image.

    `release` is Debian's number, `kernel` one of cloud and server, `packages` are added to ours, `mirror` is
    a base URL or None for mmdebstrap's own.
    """

    release: str = "13"
    kernel: str = "server"
    packages: tuple[str, ...] = ()
    mirror: str | None = None


def suite(options: Options) -> str:
    """Return Debian's name of the release; raises ImageError for one that we cannot build."""
    if options.release not in SUITES:
        raise ImageError(f"Debian {options.release!r} cannot be built; one of: {', '.join(SUITES)}")
    if options.kernel not in FLAVOURS:
        raise ImageError(f"kernel {options.kernel!r} is not one of: {', '.join(FLAVOURS)}")
    return SUITES[options.release]


def packages(options: Options, texts: Path = TEXTS) -> tuple[str, ...]:
    """Return every package to install: ours, those of the kernel's list, those of the configuration."""
    lists = (texts / "debian" / "packages" / name for name in ("base", options.kernel))
    ours = [name for file in lists for name in listed(file)]
    return tuple(dict.fromkeys([*ours, *options.packages]))


def listed(file: Path) -> tuple[str, ...]:
    """Return the package names in `file`, one in a line; lines that begin with # are for people."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def key(options: Options, texts: Path = TEXTS, code: Path = CODE) -> str:
    """Return the name of the image: it differs when an option, a text or the builder's code differs."""
    return _key(json.dumps(asdict(options), sort_keys=True), (texts, code), lambda file: not of_hosts(file))


def host_key(mirror: str | None, texts: Path = TEXTS, code: Path = CODE, *, node: bool = False) -> str:
    """Return the name of the root that the lab's hosts start from; as `key`, of what they are made of.

    Hosts that are to be a `node` too start from one with more in it.
    """
    return _key(
        json.dumps({"mirror": mirror, "node": node}),
        (texts, code),
        lambda file: of_hosts(file) or file == BUILDER,
    )


def of_hosts(file: Path) -> bool:
    """Return whether `file`, a relative path, is about the lab's hosts alone and about no image."""
    return Path(file.parts[0]).stem == "host"


def _key(seed: str, folders: tuple[Path, ...], wanted: Callable[[Path], bool]) -> str:
    digest = hashlib.sha256(seed.encode())
    for folder in folders:
        for file in _files(folder):
            if wanted(file.relative_to(folder)):
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                runs = bool(file.stat().st_mode & 0o100)
                digest.update(f"{file.relative_to(folder)} {runs} {content}\n".encode())
    return digest.hexdigest()[:32]


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file
