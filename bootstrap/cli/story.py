"""Prints how a machine's last boots went."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

TIME = slice(11, 23)  # of RFC 3339 with milliseconds: the time of day


def show_story(told: Mapping[str, Any]) -> None:
    """Print the story; the appliance has taken out of it what a terminal would obey."""
    for line in lines_of(told):
        click.echo(line)


def lines_of(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines: the boots, oldest first, then the diagnosis; pure."""
    yield f"{told['name']} ({told['mac']})"
    for number, steps in enumerate(told["boots"], start=1 - len(told["boots"])):
        which = "last boot" if number == 0 else f"boot {number}"
        yield ""
        yield f"{which}, {steps[0]['time'][:10]} UTC"
        for step in steps:
            yield f"  {step['time'][TIME]}  {step['text']}"
    found = told["diagnosis"]
    yield ""
    yield f"{found['name']}: {found['cause']}"
    yield f"to do: {found['remedy']}"
