"""ONE FILE PER KIND OF SOURCE: what a configuration wants of it, and how its maker lays files out; no I/O."""

from collections.abc import Callable
from dataclasses import dataclass

from bootstrap.mirror.item import Ask, Item, Wanted
from bootstrap.model import Cluster


def no_channel(wanted: Wanted, ask: Ask) -> str:
    """Return the version as it is: this source has no channels."""
    del ask
    return wanted.version


@dataclass(frozen=True, kw_only=True)
class Source:
    """A maker's way to publish.

    `wanted` gives what a cluster needs of it. `newest` asks which release a channel is at. `items` asks for the
    files that make up a wanted thing of a fixed version, with their sums. `is_image` is true where those are in a
    registry.
    """

    title: str
    wanted: Callable[[Cluster], tuple[Wanted, ...]]
    items: Callable[[Wanted, Ask], tuple[Item, ...]]
    newest: Callable[[Wanted, Ask], str] = no_channel
    is_image: bool = False
