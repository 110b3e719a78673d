"""The application: every dependency is an argument, every route declares who may call it."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from flask import Flask, Response

from bootstrap import failpoints
from bootstrap.errors import ServeError
from bootstrap.state import Store
from web import (
    accepting,
    alarms,
    boot,
    claim,
    discovery,
    gpu_drivers,
    gpu_reports,
    gpus,
    health,
    ignition,
    kubelet,
    machine,
    metrics,
    operator,
    pxe_events,
    story,
)
from web.answers import install_error_handlers
from web.bodies import SMALL_BODY
from web.credentials import Connect, nowhere
from web.hot import Front
from web.images import Images
from web.listeners import Routes
from web.site import KeepAccepted, ReadJoining, Rendered, Site


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Return a random id for an arm (RFC 9562, version 4)."""
    return str(uuid4())


def create_site(
    store: Store,
    *,
    images: Images,
    read_rendered: Callable[[], Rendered],
    is_nginx_up: Callable[[], bool],
    connect: Connect = nowhere,
    read_joining: ReadJoining = lambda _: None,
    keep_accepted: KeepAccepted = lambda found: found,
    clock: Callable[[], datetime] = now,
    ids: Callable[[], str] = new_id,
) -> Site:
    """Return the site over `store`, with the rendered documents loaded and the machines enrolled.

    Raises:
        StateError: the store could not read or write.
    """
    return Site(
        store,
        clock=clock,
        new_id=ids,
        images=images,
        read_rendered=read_rendered,
        is_nginx_up=is_nginx_up,
        connect=connect,
        read_joining=read_joining,
        keep_accepted=keep_accepted,
    )


def create_app(site: Site) -> Flask:
    """Return the application that answers for `site`.

    Raises:
        ServeError: a route does not declare who may call it, or Flask's debugger is on.
    """
    app = Flask("web", static_folder=None)
    if app.debug:
        raise ServeError("FLASK_DEBUG is set: the debugger would run what anyone sends; unset it")
    app.config["MAX_CONTENT_LENGTH"] = SMALL_BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    install_error_handlers(app)
    app.after_request(_about_to_answer)
    routes = Routes(app)
    measure = metrics.add(app, routes, site)
    hot = [room.add(routes, site) for room in (boot, ignition, machine)]
    for room in (
        *(
            accepting,
            alarms,
            claim,
            discovery,
            gpu_drivers,
            gpu_reports,
            gpus,
            kubelet,
            pxe_events,
            operator,
            story,
        ),
        health,
    ):
        room.add(routes, site)
    routes.refuse_undeclared()
    app.wsgi_app = Front(app.wsgi_app, hot, measure)  # type: ignore[method-assign]  # Flask's own way to wrap an app
    return app


def _about_to_answer(response: Response) -> Response:
    failpoints.reached("web.answer.before")
    return response
