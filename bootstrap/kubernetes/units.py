"""Units with their command lines, and which files of a tree each of them reads."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bootstrap.kubernetes.documents import arguments
from bootstrap.kubernetes.places import UNITS
from bootstrap.kubernetes.tree import HostFile, Unit
from bootstrap.templates import render

_PATH = re.compile(rb"/[A-Za-z0-9._/-]*[A-Za-z0-9_-]")


@dataclass(frozen=True)
class Service:
    """A service of ours: `name` is its program too, `user` the system user that it runs as."""

    name: str
    flags: tuple[str, ...]
    capabilities: str = ""

    @property
    def file(self) -> str:
        """Return where its unit file stands."""
        return f"{UNITS}/{self.name}.service"

    def text(self) -> bytes:
        """Return its unit file.

        Raises:
            RenderError: systemd would not pass a flag on as it stands.
        """
        template = f"systemd/{self.name}.service.j2"
        return render(template, flags=arguments(self.flags), capabilities=self.capabilities).encode()


def reads_of(start: str, files: Mapping[str, HostFile]) -> tuple[str, ...]:
    """Return the file `start` and all of `files` that it names, or that one of those names, sorted.

    A file whose content is secret or a program is read, but not looked into.
    """
    found, waiting = set[str](), [start]
    while waiting:
        path = waiting.pop()
        if path in files and path not in found:
            found.add(path)
            waiting += _named_in(files[path])
    return tuple(sorted(found))


def unit_of(service: str, user: str, files: Mapping[str, HostFile]) -> Unit:
    """Return the unit called `service`, reading what its file in `files` names."""
    return Unit(service, reads_of(f"{UNITS}/{service}", files), user)


def _named_in(file: HostFile) -> Iterable[str]:
    content = file.content if isinstance(file.content, bytes) else b""
    return [match.decode("ascii") for match in _PATH.findall(content)]
