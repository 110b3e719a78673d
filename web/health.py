"""GET /livez and /readyz: does the process answer, and can it do its work?"""

from flask import Response

from web.answers import refused, text
from web.listeners import Access, Routes
from web.site import Site


def add(routes: Routes, site: Site) -> None:
    """Add the two routes; they tell nothing that a stranger may not know."""

    @routes.get("/livez", Access.PUBLIC, Access.MACHINE, Access.OPERATOR)
    def livez() -> Response:
        return text("ok\n")

    @routes.get("/readyz", Access.PUBLIC, Access.MACHINE, Access.OPERATOR)
    def readyz() -> Response:
        missing = site.missing()
        return refused(503, "; ".join(missing)) if missing else text("ok\n")
