"""Guesses what was meant, for the error texts."""

import difflib
from collections.abc import Iterable


def key(found: str, known: Iterable[str]) -> str:
    """Return what to do about the unknown key `found`: write the closest of `known`, or remove it."""
    options = sorted(known)
    advice = choice(found, options)
    return (
        advice
        if advice.startswith("did") or not options
        else f"remove it, or write one of {', '.join(options)}"
    )


def choice(found: str, known: Iterable[str]) -> str:
    """Return what to write instead of `found`: the closest of `known`, or all of them."""
    options = sorted(known)
    lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(found.lower().replace("_", ""), lower, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lower[near[0]]}?"
    if len(options) == 1:
        return f"write {options[0]}"
    return f"write one of {', '.join(options)}" if options else "remove it"
