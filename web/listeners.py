"""Which route answers on which listener: declared per route, nothing by default.

nginx says in a header on which of its listeners a request came, after it dropped what the client wrote there.
Only nginx reaches our socket. A request on the wrong listener gets the same 404 as one for a route that does
not exist.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from flask import Flask, request
from werkzeug.exceptions import Forbidden, NotFound

from bootstrap.errors import ServeError
from bootstrap.model import Cluster

LISTENER_HEADER = "X-Firstlight-Listener"
CLIENT_HEADER = "X-Firstlight-Client"  # the CN of a client certificate that nginx verified, else empty
ADDRESS_HEADER = "X-Firstlight-Address"  # from which address nginx got the request
PXE_CLIENT = "firstlight:pxe"

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Access(StrEnum):
    """Who may call a route.

    PUBLIC: anyone, plain HTTP. MACHINE: anyone, HTTPS of the provisioning network. OPERATOR: the Unix socket of the
    work folder. PXE: HTTPS with the certificate of the pxe process.
    """

    PUBLIC = "public"
    MACHINE = "machine"
    OPERATOR = "operator"
    PXE = "pxe"


STAGE_A = (Access.PUBLIC, Access.MACHINE)
"""Who may call what boots a machine: by HTTPS it is the same to everybody, for an iPXE that trusts our CA."""


def base_of(cluster: Cluster, listener: str) -> str:
    """Return the URL that a machine goes on with which asked on `listener`: who came by HTTPS stays there."""
    return cluster.secure_url if listener == Access.MACHINE else cluster.base_url


class Routes:
    """The route table of an app, and the guard before every request."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._access: dict[str, frozenset[Access]] = {}
        app.before_request(self._guard)

    def get(self, rule: str, *access: Access) -> Callable[[Handler], Handler]:
        """Declare a route that reads."""
        return self._route(rule, "GET", access)

    def post(self, rule: str, *access: Access) -> Callable[[Handler], Handler]:
        """Declare a route that changes something."""
        return self._route(rule, "POST", access)

    def refuse_undeclared(self) -> None:
        """Look at the whole route table before the first request.

        Raises:
            ServeError: a route says not who may call it.
        """
        rules = self._app.url_map.iter_rules()
        open_rules = [rule.rule for rule in rules if not self._access.get(rule.endpoint)]
        if open_rules:
            raise ServeError(f"routes that do not declare who may call them: {', '.join(sorted(open_rules))}")

    def _route(self, rule: str, method: str, access: tuple[Access, ...]) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            self._access[handler.__name__] = frozenset(access)
            self._app.add_url_rule(rule, endpoint=handler.__name__, view_func=handler, methods=[method])
            return handler

        return declare

    def _guard(self) -> None:
        """Refuse what came on the wrong listener; a wrong method or a path to be redirected is a 404 too."""
        rule = request.url_rule
        access = self._access.get(rule.endpoint, frozenset()) if rule else frozenset()
        listener = request.headers.get(LISTENER_HEADER, "")
        if Access.PXE in access and listener == Access.MACHINE:
            if request.headers.get(CLIENT_HEADER) != PXE_CLIENT:
                raise Forbidden
            return
        # PXE is a certificate, not a listener: no request can come "on" it.
        if listener not in access - {Access.PXE}:
            raise NotFound
