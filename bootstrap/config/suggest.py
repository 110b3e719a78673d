"""Guesses what was meant, for the error texts."""

import difflib
from collections.abc import Iterable


def choice(found: str, known: Iterable[str]) -> str:
    """Return what to write instead of `found`: the closest of `known`, or all of them."""
    options = sorted(known)
    lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(found.lower().replace("_", ""), lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lower[near[0]]}?"
    return f"write one of {', '.join(options)}" if options else "remove it"
