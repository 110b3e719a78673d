"""What a benchmark compares: sides that are run in turns, and ratios of the figures that they give."""

import operator
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

Figures = Mapping[str, float]
"""What one round of one side gave, by name."""
Side = Callable[[], Figures]
"""Runs one round."""
Round = Mapping[str, Figures]
"""The figures of one round, by the name of the side."""

_GOAL = re.compile(r"(<=|>=|==) ?(\d+(?:\.\d+)?)")
_HOLDS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Figure:
    """A figure of a side."""

    side: str
    name: str

    def of(self, one: Round) -> float:
        """Return its value in one round."""
        return one[self.side][self.name]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """`top` divided by `bottom` in each round; without a `bottom`, `top` itself.

    `asked` is a goal such as "<= 1.1", or empty for a row that is only shown; `unit` that of the figures.
    """

    name: str
    top: Figure
    bottom: Figure | None = None
    asked: str = ""
    unit: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if self.asked and not _GOAL.fullmatch(self.asked):
            raise ValueError(f"{self.name}: {self.asked!r} is no goal; write such as '<= 1.1'")

    def of(self, one: Round) -> float:
        """Return the ratio of one round.

        Raises:
            ZeroDivisionError: the lower figure is zero, so nothing was measured.
        """
        return self.top.of(one) / self.bottom.of(one) if self.bottom else self.top.of(one)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One file of this folder; `prepare` makes its sides in an empty folder, and takes back what it started.

    `rounds` is how many it needs at least: short ones that other work on the machine disturbs want more.
    """

    name: str
    why: str
    ratios: Sequence[Ratio]
    prepare: Callable[[Path], AbstractContextManager[Mapping[str, Side]]]
    rounds: int = 5


@dataclass(frozen=True)
class Result:
    """A ratio with all its rounds."""

    ratio: Ratio
    rounds: Sequence[Round]

    @property
    def values(self) -> list[float]:
        """The ratio of each round."""
        return [self.ratio.of(one) for one in self.rounds]

    @property
    def median(self) -> float:
        """The median of the rounds' ratios; each is of two measurements moments apart."""
        return statistics.median(self.values)

    @property
    def holds(self) -> bool:
        """Whether the median reaches what is asked; a row without a goal always does."""
        return not self.ratio.asked or reaches(self.median, self.ratio.asked)

    def median_of(self, figure: Figure) -> float:
        """Return the median of one figure, which depends on the machine."""
        return statistics.median(figure.of(one) for one in self.rounds)


def reaches(value: float, goal: str) -> bool:
    """Return whether `value` reaches a goal such as "<= 1.1"."""
    found = _GOAL.fullmatch(goal)
    if found is None:
        raise ValueError(f"{goal!r} is no goal")
    return bool(_HOLDS[found[1]](value, float(found[2])))


def interleave(
    sides: Mapping[str, Side], *, rounds: int, warm_ups: int = 1, tell: Callable[[str], object]
) -> list[Round]:
    """Run every side in turns, A B A B, and return the rounds; those that warm up are thrown away."""
    done: list[Round] = []
    for number in range(-warm_ups, rounds):
        tell("warm-up" if number < 0 else f"round {number + 1} of {rounds}")
        one = {name: side() for name, side in sides.items()}
        if number >= 0:
            done.append(one)
    return done
