"""Loads the plugin that a config value names: a plugin is a file, its name is the value."""

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import TypeVar

from bootstrap.errors import RenderError, UnknownChoice

T = TypeVar("T")


@cache
def names(room: ModuleType) -> tuple[str, ...]:
    """Return what can be chosen in `room`, sorted, as config values (kebab-case)."""
    found = pkgutil.iter_modules(room.__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in found))


def load(room: ModuleType, name: str, kind: type[T], *, where: str) -> T:
    """Return the `kind` that the file called `name` in `room` exports as PLUGIN.

    `where` is the config key that asked, for the error text.

    Raises:
        UnknownChoice: no file in the room has that name.
        RenderError: the file exports no PLUGIN of that kind.
    """
    if name not in names(room):
        raise UnknownChoice(f"{where}: {name!r} is not one of: {', '.join(names(room))}")
    module = importlib.import_module(f"{room.__name__}.{name.replace('-', '_')}")
    plugin = getattr(module, "PLUGIN", None)
    if not isinstance(plugin, kind):
        raise RenderError(f"{module.__name__}.PLUGIN is not an {kind.__name__}")
    return plugin
