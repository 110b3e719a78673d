"""The requests that a whole rack makes at once, answered in front of Flask, by the same functions.

Flask's routing costs three times what the answer itself costs. `/ipxe`, the stage A document and the reports of
installers are most of all requests while a rack boots. A request that is not exactly one of these (another method,
listener, length or path) goes to Flask, which knows the same routes and answers for every special case.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from web.answers import Answer, answer_to
from web.bodies import SMALL_BODY
from web.listeners import LISTENER_HEADER, Access

Measure = Callable[[str, int, float], None]
"""Takes the route, the status and the seconds of an answered request."""

LISTENER = "HTTP_" + LISTENER_HEADER.upper().replace("-", "_")
PHRASES = {200: "OK", 304: "NOT MODIFIED"}


class Handler(Protocol):
    """Answers one kind of request."""

    def __call__(self, asked: "Asked") -> Answer:
        """Return the answer; whatever is raised becomes one too."""


class Asked:
    """A request as far as a handler needs it; `rest` is the path behind the route's own part."""

    def __init__(self, environ: WSGIEnvironment, rest: str) -> None:
        self.environ = environ
        self.rest = rest

    @property
    def listener(self) -> str:
        """Return the listener that it came on, as nginx says."""
        return str(self.environ.get(LISTENER, ""))

    @property
    def query(self) -> Mapping[str, str]:
        """Return the parameters; of one that comes twice, the first."""
        text = self.environ.get("QUERY_STRING", "").encode("latin-1").decode(errors="replace")
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace")
        return dict(reversed(pairs))

    @property
    def body(self) -> bytes:
        """Return the body, whose length was checked."""
        content: bytes = self.environ["wsgi.input"].read(int(self.environ["CONTENT_LENGTH"]))
        return content


@dataclass(frozen=True)
class Hot:
    """A route: its `rule` as Flask and the metrics call it, who may call it, and what answers."""

    rule: str
    method: str
    access: tuple[Access, ...]
    handler: Handler

    @property
    def start(self) -> str:
        """Return the fixed part of the path; a rule with a parameter at its end goes on behind it."""
        return self.rule.partition("<")[0]


class Front:
    """A WSGI application in front of another one."""

    def __init__(self, behind: WSGIApplication, routes: Iterable[Hot], measure: Measure) -> None:
        self._behind = behind
        self._routes = {route.start: route for route in routes}
        self._measure = measure

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or let the other application answer."""
        route, rest = self._match(environ)
        if route is None:
            return self._behind(environ, start_response)
        began = time.perf_counter()
        try:
            answer = route.handler(Asked(environ, rest))
        except Exception as error:  # noqa: BLE001  # every error has its answer, the unexpected one too
            answer = answer_to(error)
        self._measure(route.rule, answer.status, time.perf_counter() - began)
        length = ("Content-Length", str(len(answer.body)))
        headers = [*answer.headers] if answer.status == 304 else [*answer.headers, length]  # noqa: PLR2004
        start_response(f"{answer.status} {PHRASES.get(answer.status, 'REFUSED')}", headers)
        return (answer.body,)

    def _match(self, environ: WSGIEnvironment) -> tuple[Hot | None, str]:
        path: str = environ["PATH_INFO"]
        route, rest = self._routes.get(path), ""
        if route is None:
            start, slash, rest = path.rpartition("/")
            route = self._routes.get(start + slash) if rest else None
        elif path.endswith("/"):
            return None, ""
        is_ours = (
            route is not None
            and environ["REQUEST_METHOD"] == route.method
            and environ.get(LISTENER) in route.access
            and (route.method == "GET" or _is_short(environ))
        )
        return (route, rest) if is_ours else (None, "")


def _is_short(environ: WSGIEnvironment) -> bool:
    """Return whether the body has a plain, small length."""
    length = environ.get("CONTENT_LENGTH", "")
    return length.isascii() and length.isdigit() and len(length) < 7 and int(length) <= SMALL_BODY  # noqa: PLR2004
