"""What applying would change, as lines and as a diff; pure: it compares two trees that others have read."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from bootstrap.render.bundle import Bundle, File

_SECRET_MARKS = (b"PRIVATE KEY-----", b'"password"')
_NOT_SHOWN = "(holds a secret: not shown)"


@dataclass(frozen=True)
class Plan:
    """What would change: `lines` for people, in the order of the work, and `diff` in unified form.

    Both are empty when nothing would change.
    """

    lines: tuple[str, ...]
    diff: str

    def __bool__(self) -> bool:
        """Return whether anything would change."""
        return bool(self.lines)


def plan(
    before: Mapping[str, File], after: Bundle, *, keys: Iterable[str] = (), images: Iterable[str] = ()
) -> Plan:
    """Return what leads from the tree applied last to `after`.

    `before` is what `disk.read_bundle` found, empty before the first run. `keys` and `images` are lines about
    keys to be made and images to be built, as those rooms write them; they come first and last.
    """
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    lines = (
        *keys,
        *(_line(path, before.get(path), after.get(path)) for path in changed),
        *(_effect(path) for path in changed if _effect(path)),
        *images,
    )
    return Plan(
        lines=tuple(dict.fromkeys(lines)),
        diff="".join(_diff(path, before.get(path), after.get(path)) for path in changed),
    )


def _line(path: str, old: File | None, new: File | None) -> str:
    """Return one line that says what happens to the document at `path`."""
    if old is None and new is not None:
        return f"add bundle/{path} ({len(new.content)} bytes)"
    if old is not None and new is None:
        return f"remove bundle/{path}"
    if old is not None and new is not None and old.content == new.content:
        return f"change the mode of bundle/{path}: {old.mode:04o} -> {new.mode:04o}"
    return f"change bundle/{path}"


def _effect(path: str) -> str:
    """Return what a change of the document at `path` leads to, or nothing."""
    if path.startswith("pxe/"):
        return "restart pxe: its dnsmasq.conf changes; leases are kept"
    if path == "web/nginx.conf":
        return "restart web: its nginx.conf changes"
    if path.startswith("machines/") and path.endswith("/installed.ign"):
        name = path.split("/")[1]
        return f"{name}: gets the new document at its next installation; what is installed stays as it is"
    return ""


def _diff(path: str, old: File | None, new: File | None) -> str:
    """Return the unified diff of one document; secrets and binary files are named, never shown."""
    contents = [file.content for file in (old, new) if file is not None]
    if any(mark in unquote_to_bytes(content) for content in contents for mark in _SECRET_MARKS):
        return f"--- {path}\n+++ {path}\n{_NOT_SHOWN}\n"
    try:
        was, will_be = _readable(path, old), _readable(path, new)
    except UnicodeDecodeError:
        return f"--- {path}\n+++ {path}\n(binary: not shown)\n"
    from_name, to_name = (f"bundle/{path}" if file is not None else "/dev/null" for file in (old, new))
    return "".join(_with_newlines(difflib.unified_diff(was, will_be, from_name, to_name)))


def _readable(path: str, file: File | None) -> list[str]:
    """Return the lines of a document; the files inside an Ignition document are unfolded."""
    if file is None:
        return []
    text = file.content.decode()
    if path.endswith(".ign"):
        text = _unfolded(text)
    return text.splitlines(keepends=True)


def _unfolded(text: str) -> str:
    """Return an Ignition document with each data URL written out below it, so that a diff shows its lines."""
    try:
        files = json.loads(text)["storage"]["files"]
        contents = {file["path"]: file["contents"]["source"] for file in files}
    except (ValueError, KeyError, TypeError):
        return text
    lines: list[str] = []
    for path, source in contents.items():
        text = text.replace(json.dumps(source), f'"(below: {path})"')
        lines += ["", f"{path}:", *unquote_to_bytes(source.removeprefix("data:,")).decode().splitlines()]
    return text + "\n".join(lines) + "\n"


def _with_newlines(lines: Iterable[str]) -> Iterator[str]:
    """Yield `lines`, each with a newline; a file's last line may lack one."""
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
