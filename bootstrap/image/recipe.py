"""What goes into an image, and the key that names all of it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bootstrap.errors import ImageError

FAMILY = "debian"
BUILDER = Path("builder.py")  # serves images and hosts
COMPILING = (Path("driver/build"), Path("driver/compile"))  # what NVIDIA's modules are made by
SUITES = {"13": "trixie"}
FLAVOURS = ("cloud", "server")
TEXTS = Path(__file__).parents[2] / "configs" / "image"
CODE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Driver:
    """NVIDIA's driver in an image: `source` is Debian's package with its modules' source, `packages` are the rest.

    `title` is its branch and flavour (`535 (closed)`), `branch` the first number of its versions. Those of `packages`
    that are `paired` do nothing with modules of another version than their own.
    """

    title: str
    branch: int
    source: str
    packages: tuple[str, ...]
    paired: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A kernel and a driver, as Debian has them: what is built for what.

    `kernel` is the kernel as `uname -r` says it; the others are versions of Debian's packages.
    """

    kernel: str
    kernel_package: str
    driver_package: str

    @property
    def driver(self) -> str:
        """Return the driver's own version: 535.274.02 of 535.274.02-1~deb13u1."""
        return self.driver_package.rpartition("-")[0].rpartition(":")[2] or self.driver_package


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the configuration says about an image.

    `release` is Debian's number, `kernel` one of cloud and server, `packages` are added to ours, `mirror` is
    a base URL or None for mmdebstrap's own; `driver` is None for an image without.
    """

    release: str = "13"
    kernel: str = "server"
    packages: tuple[str, ...] = ()
    mirror: str | None = None
    driver: Driver | None = None


def suite(options: Options) -> str:
    """Return Debian's name of the release; raises ImageError for one that we cannot build."""
    if options.release not in SUITES:
        raise ImageError(f"Debian {options.release!r} cannot be built; one of: {', '.join(SUITES)}")
    if options.kernel not in FLAVOURS:
        raise ImageError(f"kernel {options.kernel!r} is not one of: {', '.join(FLAVOURS)}")
    return SUITES[options.release]


def packages(options: Options, texts: Path = TEXTS) -> tuple[str, ...]:
    """Return every package to install: ours, those of the kernel's list, the driver's, those of the configuration."""
    lists = (texts / "debian" / "packages" / name for name in ("base", options.kernel))
    ours = [name for file in lists for name in listed(file)]
    drivers = options.driver.packages if options.driver else ()
    return tuple(dict.fromkeys([*ours, *drivers, *options.packages]))


def listed(file: Path) -> tuple[str, ...]:
    """Return the package names in `file`, one in a line; lines that begin with # are for people."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def key(options: Options, texts: Path = TEXTS, code: Path = CODE, *, pair: Pair | None = None) -> str:
    """Return the name of the image: it differs when an option, a text or the builder's code differs.

    One with a driver has a `pair`, and another name with each; without one this is the name of what is asked for.
    """
    seed = {"options": asdict(options), "pair": asdict(pair) if pair else None}
    has_driver = options.driver is not None
    return _key(
        json.dumps(seed, sort_keys=True),
        (texts, code),
        lambda file: not of_hosts(file) and (has_driver or not of_drivers(file)),
    )


def modules_key(options: Options, pair: Pair, texts: Path = TEXTS) -> str:
    """Return the name of the modules of a `pair`: of it, of their package, and of the texts that make them.

    It does not change with the rest of an image, so that they are made once.
    """
    source = options.driver.source if options.driver else ""
    seed = {"release": options.release, "source": source, "pair": asdict(pair)}
    return _key(json.dumps(seed, sort_keys=True), (texts,), lambda file: file in COMPILING)


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


def of_drivers(file: Path) -> bool:
    """Return whether `file`, a relative path, is about images with a driver alone."""
    return Path(file.parts[0]).stem in {"driver", "modules"}


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
