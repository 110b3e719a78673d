"""Ignition documents, built as data (spec 3.3.0: the newest that Debian 12's ignition-validate can check)."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote

from bootstrap.errors import RenderError

SPEC_VERSION = "3.3.0"

_KEPT = 1024
"""Entries remembered as they were built: nearly all of a machine's are those of the machine before."""
_DEPTH = "\n   "
"""The line break before a node's own lines: it stands in a list in a section of the document."""


class Node(dict[str, object]):
    """One entry of a document, not to be changed once it is built: its text is made once."""

    text = ""
    """The entry as JSON, with the indentation of its place in a document; empty until it is needed."""

    def encoded(self) -> str:
        """Return its text, made once."""
        if not self.text:
            self.text = json.dumps(self, sort_keys=True, indent=1, ensure_ascii=True).replace("\n", _DEPTH)
        return self.text


# The modes in use. None of them, read as decimal, is a number that people write for a mode (644, 755, 600),
# so a mode that lost its 0o is refused instead of becoming --w----r-T.
_MODES = frozenset({0o400, 0o440, 0o444, 0o500, 0o555, 0o600, 0o640, 0o644, 0o700, 0o750, 0o755})


def data_url(content: str | bytes) -> str:
    """Return `content` as a data URL (RFC 2397), percent-encoded so that a diff of it stays readable.

    Raises:
        RenderError: `content` is neither text nor bytes; a Secret is neither.
    """
    if not isinstance(content, (str, bytes)):
        raise RenderError(f"a file's content is a {type(content).__name__}, not text or bytes")
    return "data:," + quote(content, safe="")


def file(path: str, content: str | bytes, *, mode: int = 0o644) -> Node:
    """Return a file node that replaces whatever is at the absolute `path`.

    Raises:
        RenderError: `mode` is not a usual octal mode (644 instead of 0o644), or the content has no bytes.
    """
    if mode not in _MODES:
        raise RenderError(f"{path}: mode {mode} is {mode:#o} in octal; write 0o644, 0o600 or 0o755")
    if not isinstance(content, (str, bytes)):
        return _file(path, content, mode)  # refused below, without being remembered
    return _remembered(path, content, mode)


def fetched(path: str, url: str, sha256: str, *, mode: int = 0o644) -> Node:
    """Return a file node that Ignition fetches from `url`; one with another sum than `sha256` (hex) is refused.

    Raises:
        RenderError: `mode` is not a usual octal mode.
    """
    if mode not in _MODES:
        raise RenderError(f"{path}: mode {mode} is {mode:#o} in octal; write 0o644, 0o600 or 0o755")
    contents = {"source": url, "verification": {"hash": f"sha256-{sha256}"}}
    return Node(path=path, mode=mode, overwrite=True, contents=contents)


def _file(path: str, content: str | bytes, mode: int) -> Node:
    source = data_url(content)
    node = Node(path=path, mode=mode, overwrite=True, contents={"source": source})
    # The same text as that of any entry, for the kind of which a rack has most.
    lines = (
        "{",
        ' "contents": {',
        f'  "source": {json.dumps(source)}',
        " },",
        f' "mode": {mode},',
        ' "overwrite": true,',
        f' "path": {json.dumps(path)}',
        "}",
    )
    node.text = _DEPTH.join(lines)
    return node


_remembered = lru_cache(_KEPT, typed=True)(_file)


@lru_cache(_KEPT)
def unit(name: str, contents: str, *, enabled: bool) -> Node:
    """Return a systemd unit written to /etc/systemd/system."""
    return Node(name=name, contents=contents, enabled=enabled)


@lru_cache(_KEPT)
def enabled(name: str) -> Node:
    """Return a unit of the system's own that is to start at every boot."""
    return Node(name=name, enabled=True)


@lru_cache(_KEPT)
def masked(name: str) -> Node:
    """Return a unit that can never start."""
    return Node(name=name, mask=True)


def user(name: str, authorized_keys: Iterable[str], *, groups: Iterable[str] = ()) -> Node:
    """Return a user who has no password and these SSH keys; one that exists already is amended."""
    return _user(name, tuple(sorted(authorized_keys)), tuple(sorted(groups)))


@lru_cache(_KEPT)
def _user(name: str, keys: tuple[str, ...], groups: tuple[str, ...]) -> Node:
    node = Node(name=name, sshAuthorizedKeys=list(keys))
    if groups:
        node["groups"] = list(groups)
    return node


def document(
    *,
    files: Iterable[Node],
    units: Iterable[Node] = (),
    users: Iterable[Node] = (),
    kernel_arguments: Iterable[str] = (),
) -> bytes:
    """Return the document as JSON bytes; all but `kernel_arguments` is sorted, so the same input gives the same bytes.

    The system's first start adds those to its boot loader's and starts anew.

    Raises:
        RenderError: two files have the same path, or two units or users the same name.
    """
    sections = (
        _arguments(tuple(kernel_arguments)),
        _section("passwd", "users", _sorted(users, key="name")),
        _section("storage", "files", _sorted(files, key="path")) or ' "storage": {\n  "files": []\n }',
        _section("systemd", "units", _sorted(units, key="name")),
    )
    head = f' "ignition": {{\n  "version": "{SPEC_VERSION}"\n }}'
    return ("{\n" + ",\n".join((head, *filter(None, sections))) + "\n}\n").encode()


def _arguments(words: tuple[str, ...]) -> str:
    if not words:
        return ""
    lines = ",\n".join(f"   {json.dumps(word)}" for word in words)
    return f' "kernelArguments": {{\n  "shouldExist": [\n{lines}\n  ]\n }}'


def _section(name: str, kind: str, nodes: list[Node]) -> str:
    """Return a section of the document as `json_bytes` would write it, from the texts of its nodes."""
    if not nodes:
        return ""
    return f' "{name}": {{\n  "{kind}": [' + ",".join(_DEPTH + node.encoded() for node in nodes) + "\n  ]\n }"


def json_bytes(value: Mapping[str, object]) -> bytes:
    """Return `value` as JSON with sorted keys, one space of indentation and a final newline.

    Raises:
        RenderError: something in it is not JSON; a Secret is not.
    """
    try:
        return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()
    except TypeError as error:
        raise RenderError(f"cannot be written as JSON: {error}") from error


def _sorted(nodes: Iterable[Node], *, key: str) -> list[Node]:
    """Return `nodes` in the order of their `key`, refusing two with the same one."""
    ordered = sorted(nodes, key=lambda node: str(node[key]))
    seen = [str(node[key]) for node in ordered]
    if len(set(seen)) != len(seen):
        raise RenderError(f"an Ignition document holds the same {key} twice: {seen}")
    return ordered
