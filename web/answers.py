"""What goes back: JSON with a reason for every refusal, and nothing of our insides."""

import logging

from flask import Flask, Response, jsonify
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException

from bootstrap.errors import StateError
from bootstrap.records.transitions import Refused
from bootstrap.states import IllegalTransition

log = logging.getLogger(__name__)

RETRY_SECONDS = 5  # what a machine should wait before it asks again when our store is in trouble
TEXTS = {
    400: "the request makes no sense",
    403: "the client certificate is missing, or of someone else",
    404: "not found",
    405: "not found",
    413: "the body is too large",
}


class Refusal(Exception):  # noqa: N818  # reads as a sentence where it is raised
    """The request is answered with `status` and `reason`; nothing was changed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def refused(status: int, reason: str) -> Response:
    """Return a refusal as JSON; on 429 and 503 with the time to wait."""
    response = jsonify(reason=reason)
    response.status_code = status
    if status in (429, 503):
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def text(content: str) -> Response:
    """Return `content` as plain text that no cache keeps."""
    response = Response(content, mimetype="text/plain")
    response.headers["Cache-Control"] = "no-store"
    return response


def json_of(record: BaseModel) -> dict[str, object]:
    """Return a record as a JSON object with camelCase keys, times in RFC 3339."""
    return record.model_dump(mode="json", by_alias=True)


def install_error_handlers(app: Flask) -> None:
    """Answer every error as JSON with a reason; what nobody expected is logged and answered 500."""
    app.register_error_handler(Refusal, lambda error: refused(error.status, error.reason))
    app.register_error_handler(Refused, lambda error: refused(409, str(error)))
    app.register_error_handler(IllegalTransition, lambda error: refused(409, str(error)))
    app.register_error_handler(StateError, _store_failed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _our_failure)


def _http_error(error: HTTPException) -> Response:
    code = error.code or 500
    status = 404 if code in (301, 302, 307, 308, 405) else code
    return refused(status, TEXTS.get(status, "the request cannot be answered"))


def _store_failed(error: StateError) -> Response:
    log.error("the store failed: %s", error)
    return refused(503, "the appliance's store is in trouble; ask again")


def _our_failure(error: Exception) -> Response:
    log.error("our failure", exc_info=error)
    return refused(500, "the appliance failed; its log says why")
