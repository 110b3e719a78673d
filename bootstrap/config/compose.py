"""Reads one YAML file into a tree, or says in which line it is not one: the only door to YAML."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bootstrap.config.scalars import resolve
from bootstrap.config.tree import Entry, Position, Scalar, Sequence, Table, Tree
from bootstrap.errors import ConfigError, Problem

LARGEST_FILE = 16 * 1024**2
"""Bytes; 1,000 machines written out in full are a tenth of this."""
DEEPEST = 32
"""Levels of nesting; the schema has 8."""
MOST_VALUES = 500_000
"""Values after aliases are followed: a few lines of aliases can stand for billions."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.2 does not allow in a file (section 5.1)."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Malformed(Exception):  # noqa: N818  # never leaves this module
    """The file cannot be read any further; `line` and `column` count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


def read(path: Path) -> tuple[Tree | None, tuple[Problem, ...]]:
    """Return the tree in the file at `path` (None if there is none) and what is wrong with it as YAML."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        return None, (
            problem(str(path), 1, 1, f"cannot be read: {error.strerror}; check the name after --config"),
        )
    return compose(data, str(path))


def compose(data: bytes, file: str) -> tuple[Tree | None, tuple[Problem, ...]]:
    """Return the tree in `data` (None if there is none) and what is wrong with it as YAML; never raises."""
    composer = None
    try:
        text = _text(data)
        composer = _Composer(file, yaml.parse(text, Loader=_LOADER))
        tree = composer.document()
    except Malformed as error:
        problems = composer.problems if composer else []
        return None, (*problems, problem(file, error.line, error.column, error.message))
    except yaml.MarkedYAMLError as error:
        return None, (*(composer.problems if composer else ()), _syntax(file, text, error))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        return None, (problem(file, 1, 1, f"is not YAML ({reason}); compare it with configs/example.yaml"),)
    return tree, tuple(composer.problems)


def problem(file: str, line: int, column: int, message: str, path: str = "") -> Problem:
    """Return the problem at a place."""
    return Problem(file=file, line=line, column=column, path=path, message=message)


def raise_if_any(problems: tuple[Problem, ...]) -> None:
    """Raise ConfigError with `problems`, if there is one."""
    if problems:
        raise ConfigError(problems)


def _text(data: bytes) -> str:
    if len(data) > LARGEST_FILE:
        raise Malformed(1, 1, "is larger than 16 MiB; is it a configuration? check the name")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(data[: error.start].decode("utf-8-sig", "replace"))
        raise Malformed(line, column, "is not UTF-8 text; save the file as UTF-8") from None
    if found := _FORBIDDEN.search(text):
        line, column = _place(text[: found.start()])
        raise Malformed(line, column, f"holds the control character {found[0]!r}; remove it")
    return text


def _place(before: str) -> tuple[int, int]:
    line_start = before.rfind("\n") + 1
    return before.count("\n") + 1, len(before) - line_start + 1


@dataclass
class _Composer:
    """Builds the tree from the parser's events, within limits on depth and size."""

    file: str
    events: Iterator[Any]
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, Tree | None] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    values: int = 0

    def document(self) -> Tree | None:
        """Return the tree of the only document, or None if there is none."""
        tree = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if tree is not None:
                    self._stop(
                        event, "starts a second document; keep one per file and name both with --config"
                    )
                tree = self._value(next(self.events), 0)
        return tree

    def _value(self, event: Any, depth: int) -> Tree:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        if depth > DEEPEST:
            self._stop(event, f"is nested more than {DEEPEST} levels deep; remove brackets or indentation")
        if event.anchor:
            self.anchors[event.anchor] = None
        before = self.values
        tree = self._fresh(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = tree
            self.sizes[id(tree)] = self.values - before + 1
        return tree

    def _fresh(self, event: Any, depth: int) -> Tree:
        position = Position(self.file, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, position)
        if event.tag not in (None, "!"):
            self._note(event, f"has the tag {event.tag}; remove it")
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(position, tuple(self._items(depth)))
        return Table(position, self._entries(depth))

    def _scalar(self, event: Any, position: Position) -> Scalar:
        if event.tag == "tag:yaml.org,2002:str":
            return Scalar(position, event.value, event.value)
        if event.tag not in (None, "!"):
            self._note(event, f"has the tag {event.tag}; remove it")
        return Scalar(position, resolve(event.value) if event.implicit[0] else event.value, event.value)

    def _items(self, depth: int) -> Iterator[Tree]:
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self._value(event, depth + 1)

    def _entries(self, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            mark = event.start_mark
            place = Position(self.file, mark.line + 1, mark.column + 1)
            entry = Entry(place, self._value(next(self.events), depth + 1))
            if not isinstance(key, Scalar):
                self._note(event, "is a key but no text; write plain keys such as name")
            elif key.raw in entries:
                first = entries[key.raw].key.line
                self._note(event, f"the key {key.raw!r} is here twice (first in line {first}); remove one")
            else:
                entries[key.raw] = entry
        return entries

    def _alias(self, event: Any) -> Tree:
        if event.anchor not in self.anchors:
            self._stop(event, f"no anchor &{event.anchor} stands above this alias; write the value out")
        tree = self.anchors[event.anchor]
        if tree is None:
            self._stop(event, f"the alias *{event.anchor} stands inside of itself; write the value out")
        assert tree is not None  # noqa: S101  # _stop raised
        self._count(event, self.sizes[id(tree)])
        return tree

    def _count(self, event: Any, more: int) -> None:
        self.values += more
        if self.values > MOST_VALUES:
            self._stop(event, f"brings the file to more than {MOST_VALUES} values; use fewer aliases")

    def _note(self, event: Any, message: str) -> None:
        mark = event.start_mark
        self.problems.append(problem(self.file, mark.line + 1, mark.column + 1, message))

    def _stop(self, event: Any, message: str) -> None:
        raise Malformed(event.start_mark.line + 1, event.start_mark.column + 1, message)


_SYNTAX = (
    (
        "mapping values are not allowed",
        "has a ': ' too many, or the line above lacks one; or quote the value",
    ),
    ("expected key", "does not line up with the lines above; check the indentation"),
    ("expected ',' or", "leaves a bracket open; close it, or put a comma between the items"),
    ("expected the node content", "has a value missing before it; write the value or remove the comma"),
    ("could not find expected ':'", "has no ': ' after the key above; write key: value"),
    ("end of stream", "opens a quote that nothing closes; close it"),
    ("expected '-' indicator", "does not line up with the list above; check the indentation"),
    ("undefined tag handle", "starts with '!', which YAML takes for a tag; quote the value"),
    (
        "block sequence entries are not allowed",
        "has a '-' where no list can start; put it on a line of its own",
    ),
)


def _syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> Problem:
    """Return what the parser found wrong, in our words where it is one of the usual slips."""
    reason = error.problem or str(error.context)
    never_closed = "end of stream" in reason and error.context_mark
    mark: Any = error.context_mark if never_closed else error.problem_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    found = lines[line][column : column + 1] if line < len(lines) else ""
    return problem(file, line + 1, column + 1, _advice(found, reason))


def _advice(found: str, reason: str) -> str:
    if found == "\t":
        return "has a tab; YAML wants spaces"
    if "cannot start any token" in reason:
        return f"starts with {found!r}, which YAML keeps for itself; quote the value"
    for part, advice in _SYNTAX:
        if part in reason:
            return advice
    return f"is not YAML ({' '.join(reason.split())}); check indentation and quotes here"
