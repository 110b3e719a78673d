"""The command lines that build, run and remove a container; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.containers.dialect import Dialect
from bootstrap.containers.table import Container, Mount, Root

LABEL = "firstlight.work"
"""The label that says which work folder a container belongs to."""
TMPFS = "rw,noexec,nosuid,nodev,size={}"
SECURITY = ("no-new-privileges", "label=disable")
"""No process gets more than it began with; files of the work folder carry no SELinux label of a container's."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How one container is called and what it is made of; `namespace` is None for this computer's own network."""

    name: str
    image: str
    roots: Mapping[Root, Path]
    namespace: Path | None = None
    files: tuple[tuple[Path, str], ...] = ()
    """Single files to see besides: where each is, and what the container calls it."""


def run(dialect: Dialect, row: Container, this: Running, words: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the command that runs a container in the foreground, its output ours, until SIGTERM; `words` go to it."""
    network = "host" if this.namespace is None else f"ns:{this.namespace}"
    return (
        *(dialect.name, "run", "--rm", "--pull=never", f"--name={this.name}"),
        f"--label={LABEL}={this.roots['work']}",
        *(f"--network={network}", "--read-only", *dialect.run),
        "--no-healthcheck",  # whoever started it looks after it
        "--cap-drop=ALL",
        *(f"--cap-add={name}" for name in row.capabilities),
        *(f"--security-opt={option}" for option in SECURITY),
        *(() if row.user is None else (f"--user={row.user}:{row.user}",)),
        f"--pids-limit={row.processes}",
        *("--log-driver=none", f"--stop-timeout={row.stop_seconds}"),
        *(f"--tmpfs={target}:{TMPFS.format(size)}" for target, size in row.tmpfs.items()),
        *(f"--volume={source_of(mount, this.roots)}:{mount.target}:{_mode(mount)}" for mount in row.mounts),
        *(f"--volume={path}:{target}:ro" for path, target in this.files),
        this.image,
        *words,
    )


def source_of(mount: Mount, roots: Mapping[Root, Path]) -> Path:
    """Return the folder of this computer that `mount` shows."""
    return roots[mount.root] / mount.path


def _mode(mount: Mount) -> str:
    return "rw" if mount.is_writable else "ro"


def build(
    dialect: Dialect,
    *,
    file: Path,
    tag: str,
    arguments: Mapping[str, str],
    secrets: Mapping[str, Path],
    proxies: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the command that builds `file`, with its folder as the context.

    `secrets` are files that the build sees and no layer keeps; `proxies` are variables of our environment.
    """
    passed = () if dialect.passes_proxies else tuple(f"--build-arg={name}" for name in proxies)
    return (
        *(dialect.name, "build", *dialect.build, "--network=host", f"--file={file}", f"--tag={tag}"),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *passed,
        *(f"--secret=id={name},src={path}" for name, path in secrets.items()),
        str(file.parent),
    )


def remove(dialect: Dialect, names: Sequence[str]) -> tuple[str, ...]:
    """Return the command that removes containers, running or not; those that are not there are no error."""
    return (dialect.name, "rm", "--force", *names)
