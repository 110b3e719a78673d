"""How often a promise is put to the test, with which seed, and what came of it: the same in every tier.

CI takes the small count of each promise, `./check soak` the full one. A row per promise goes into the table at the
end of the run; the table of the last soak stands in docs/RELIABILITY.md.
"""

import json
import os
import random
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass

SOAK = os.environ.get("FIRSTLIGHT_TIER") == "soak"
PROPERTY = "promise"
"""The name under which a row travels in a test's report, from a worker to the run's end."""


def rounds(ci: int, soak: int) -> int:
    """Return the count of this tier."""
    return soak if SOAK else ci


def seed() -> int:
    """Return the seed of this run: FIRSTLIGHT_SEED to replay one, else a new one. It is part of the row."""
    given = os.environ.get("FIRSTLIGHT_SEED")
    return int(given) if given else _OWN_SEED


_OWN_SEED = secrets.randbelow(2**32)


def dice(name: str) -> random.Random:
    """Return the random numbers of one test: they depend on the run's seed and on `name`, not on other tests."""
    return random.Random(f"{seed()}/{name}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One promise: what was asked, what was done, what came out.

    `promise` is its short name and key ("R-01 network first"), `asked` the figure to hold ("10 boots, 1 write pass"),
    `done` the counts of this run ("3 reboots of 2 machines"), `found` what was measured ("1 write pass each").
    """

    promise: str
    asked: str
    done: str
    found: str
    seed: int | None = None

    def to_json(self) -> str:
        """Return the row as JSON text."""
        return json.dumps(asdict(self), sort_keys=True)


Promise = Callable[..., None]
"""The fixture `promise`: called with the fields of a Row (without the seed where no dice were used)."""
