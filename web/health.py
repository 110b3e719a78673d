"""GET /livez and /readyz: does the process answer, and can it do its work?"""

from contextlib import suppress
from pathlib import Path

from flask import Response

from web.answers import refused, text
from web.listeners import Access, Routes
from web.site import Site

TROUBLES = Path("run/troubles")
"""Where the supervisor (bootstrap/serve.py) says what else does not run; else it is not there."""


def add(routes: Routes, site: Site) -> None:
    """Add the two routes; they tell nothing that a stranger may not know."""

    @routes.get("/livez", Access.PUBLIC, Access.MACHINE, Access.OPERATOR)
    def livez() -> Response:
        return text("ok\n")

    @routes.get("/readyz", Access.PUBLIC, Access.MACHINE, Access.OPERATOR)
    def readyz() -> Response:
        missing = [*site.missing(), *_troubles()]
        return refused(503, "; ".join(missing)) if missing else text("ok\n")


def _troubles() -> list[str]:
    with suppress(OSError):
        return TROUBLES.read_text().splitlines()
    return []
