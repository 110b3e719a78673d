"""Makes NVIDIA's kernel modules for the kernel of an image, in a root of their own; what failed once is remembered."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bootstrap.errors import ImageError
from bootstrap.image import builder, recipe
from bootstrap.image.command import APART, run
from bootstrap.image.recipe import Options, Pair
from bootstrap.progress import Progress

COMPONENTS = "main,contrib,non-free,non-free-firmware"
TOOLS = ("gcc", "make", "xz-utils")
INSTALL = re.compile(r"^Inst (\S+) \((\S+) ")
KERNEL = re.compile(r"linux-image-(\d\S*)")
COMPILED = re.compile(r"^[#\s]*(?:CC|LD) \[M\]\s+(\S+)")
WRONG = re.compile(
    r"(?P<at>\S+\.[chS]:\d+)(?::\d+)?: (?:error: (?P<error>.+)|fatal error: (?P<header>.+: No such file or directory))"
    r"|(?:ERROR|FATAL): modpost: (?P<symbol>.+)"
)
"""What compiler and linker say of source that cannot be right for this kernel: a mistake, a header that is not there, a
symbol that is not there or for GPL modules only. A full disk or a killed compiler says something else."""
GONE = re.compile(r"^E: (.*(?:was not found|Unable to locate package).*)$", re.MULTILINE)
"""What apt says of a version that the mirror has no more."""
FILES = 205
"""About how many files are compiled, for the progress."""


class DriverError(ImageError):
    """NVIDIA's driver does not build for the image's kernel; `pair` says which, and what went wrong is remembered."""

    def __init__(self, text: str, pair: Pair) -> None:
        super().__init__(text)
        self.pair = pair


@dataclass(frozen=True, kw_only=True)
class Modules:
    """The modules of a `pair`, or the `cause` why there are none.

    `sha256` and `size` (bytes) are those of the tar that holds them as they lie in a root; it took `seconds`.
    """

    key: str
    pair: Pair
    sha256: str = ""
    size: int = 0
    seconds: int = 0
    cause: str = ""


def folder(cache: Path) -> Path:
    """Return where modules are kept: a record, a tar and the compiler's log for each pair."""
    return cache / "modules"


def archive(cache: Path, modules: Modules) -> Path:
    """Return the tar of `modules`."""
    return folder(cache) / f"{modules.key}.tar"


def log_of(cache: Path, key: str) -> Path:
    """Return what the compiler said."""
    return folder(cache) / f"{key}.log"


def offered(options: Options, work: Path) -> Pair:
    """Return the kernel and the driver that Debian would give to an image today; some seconds.

    Raises ImageError when there is none, or one of another branch.
    """
    driver = _driver(options)
    names: dict[str, str] = {}

    def see(line: str) -> None:
        if match := INSTALL.match(line):
            names[match[1]] = match[2]

    wanted = tuple(name for name in recipe.packages(options) if name.startswith("linux-image-"))
    argv = builder.mmdebstrap_argv(
        recipe.suite(options),
        work / "offered",
        packages=(*wanted, driver.source),
        components=COMPONENTS,
        hook=None,
        mirror=options.mirror,
        form="directory",
        simulate=True,
    )
    run(argv, env=_env(work), apart=APART, on_line=see)
    kernels = {match[1]: version for name, version in names.items() if (match := KERNEL.fullmatch(name))}
    if len(kernels) != 1 or driver.source not in names:
        raise ImageError(
            f"Debian offers {len(kernels)} kernels and {driver.source} {names.get(driver.source, '(none)')}"
        )
    (kernel, kernel_package), package = next(iter(kernels.items())), names[driver.source]
    pair = Pair(kernel=kernel, kernel_package=kernel_package, driver_package=package)
    if int(pair.driver.partition(".")[0]) != driver.branch:
        raise ImageError(f"Debian's {driver.source} is {pair.driver} now, which is not {driver.title}")
    return pair


def build(options: Options, pair: Pair, cache: Path, work: Path, progress: Progress) -> Modules:
    """Return the modules of `pair`, made in `work` unless the cache holds them; some minutes.

    Raises DriverError when they do not build, at once when that is known; ImageError when it could not be tried.
    """
    key = recipe.modules_key(options, pair)
    found = find(cache, key)
    if found is None:
        found = _made(options, Modules(key=key, pair=pair), cache, work, progress)
    if found.cause:
        raise DriverError(
            f"NVIDIA driver {pair.driver} does not build for kernel {pair.kernel}: {found.cause}"
            f" (log: {log_of(cache, key)}; to try it again remove {_record(cache, key)})",
            pair,
        )
    return found


def find(cache: Path, key: str) -> Modules | None:
    """Return what is known under `key`: whole modules, or why there are none; None if they are to be made."""
    try:
        values = json.loads(_record(cache, key).read_bytes())
        found = Modules(**{**values, "pair": Pair(**values["pair"])})
        if found.cause or _sum(archive(cache, found)) == found.sha256:
            return found
    except (OSError, ValueError, TypeError, KeyError):
        pass  # lost, damaged, or of another version: they are made again
    return None


def _made(options: Options, modules: Modules, cache: Path, work: Path, progress: Progress) -> Modules:
    folder(cache).mkdir(parents=True, exist_ok=True)
    pair, log, made = modules.pair, log_of(cache, modules.key), work / "modules.tar"
    env = {
        **_env(work),
        "FL_IMAGE": f"{recipe.TEXTS}",
        "FL_KERNEL": pair.kernel,
        "FL_SOURCE": f"{_driver(options).source}={pair.driver_package}",
        "FL_LOG": f"{log}",
        "FL_OUT": f"{made}",
    }
    argv = builder.mmdebstrap_argv(
        recipe.suite(options),
        work / "compiler",
        packages=(*TOOLS, f"linux-headers-{pair.kernel}={pair.kernel_package}"),
        components=COMPONENTS,
        hook=recipe.TEXTS / "driver" / "build",
        mirror=options.mirror,
        form="directory",
    )
    log.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        run(argv, env=env, apart=APART, on_line=_steps(pair, progress))
    except ImageError as error:
        if gone := GONE.search(str(error)):
            raise ImageError(f"Debian changed meanwhile: {gone[1]}; start it again") from error
        if not (cause := _cause(log)):
            raise
        found = replace(modules, cause=cause)
    else:
        seconds = round(time.monotonic() - began)
        found = replace(modules, sha256=_sum(made), size=made.stat().st_size, seconds=seconds)
        _keep(made, archive(cache, found))
    finally:
        builder.clear(work / "compiler")
    _save(cache, found)
    return found


def _steps(pair: Pair, progress: Progress) -> Callable[[str], None]:
    """Return what turns the lines of mmdebstrap and of the compiler into progress."""
    files = 0
    what = f"NVIDIA {pair.driver} for {pair.kernel}"
    progress(f"{what}: installing a compiler")

    def see(line: str) -> None:
        nonlocal files
        if match := COMPILED.match(line):
            files += 1
            progress(f"{what}: {Path(match[1]).name}", min(files, FILES - 1), FILES)

    return see


def _cause(log: Path) -> str:
    """Return the first mistake that the compiler found, on one line; empty if it found none."""
    try:
        match = WRONG.search(log.read_text(errors="replace"))
    except OSError:
        return ""
    if match is None:
        return ""
    at = Path(match["at"]).name if match["at"] else "modpost"
    return f"{at}: {(match['error'] or match['header'] or match['symbol']).strip()}"


def _record(cache: Path, key: str) -> Path:
    return folder(cache) / f"{key}.json"


def _save(cache: Path, modules: Modules) -> None:
    """Write what is known of `modules`, whole or not at all; the tar is on the disk before."""
    final = _record(cache, modules.key)
    partial = final.with_suffix(".new")
    partial.write_text(json.dumps(asdict(modules), indent=2, sort_keys=True) + "\n")
    _keep(partial, final)


def _keep(partial: Path, final: Path) -> None:
    with partial.open("rb") as content:
        os.fsync(content.fileno())
    partial.rename(final)


def _sum(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _driver(options: Options) -> recipe.Driver:
    if options.driver is None:
        raise ImageError("an image without a driver has no modules")
    return options.driver


def _env(work: Path) -> dict[str, str]:
    return {"TMPDIR": f"{work}", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "0"}
