"""The results as Markdown."""

from collections.abc import Iterable, Sequence

from benchmarks.comparison import Figure, Result

HEAD = (
    "| what | measured | against | ratio (lowest to highest round) | asked | |",
    "|---|---|---|---|---|---|",
)
PLAIN_FROM = 1000  # figures from here on are shown without decimals


def table(results: Iterable[Result]) -> str:
    """Return a table with a row per ratio."""
    return "\n".join((*HEAD, *map(_row, results))) + "\n"


def _row(result: Result) -> str:
    ratio = result.ratio
    low, high = min(result.values), max(result.values)
    against = _shown(result, ratio.bottom) if ratio.bottom else ""
    verdict = ("yes" if result.holds else "**NO**") if ratio.asked else "shown only"
    spread = f"{number(result.median)} ({number(low)} to {number(high)})"
    return (
        f"| {ratio.name} | {_shown(result, ratio.top)} | {against} | {spread} | {ratio.asked} | {verdict} |"
    )


def _shown(result: Result, figure: Figure) -> str:
    value = number(result.median_of(figure))
    return f"{figure.side}: {value} {result.ratio.unit}".rstrip()


def number(value: float) -> str:
    """Return `value` with three figures that count."""
    if value == int(value) or value >= PLAIN_FROM:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def missed(results: Sequence[Result]) -> list[str]:
    """Return a line for each ratio that does not reach its goal."""
    return [
        f"{result.ratio.name}: {number(result.median)}, asked {result.ratio.asked}"
        for result in results
        if not result.holds
    ]
