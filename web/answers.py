"""What goes back: JSON with a reason for every refusal, and nothing of our insides."""

import json
import logging
from dataclasses import dataclass

from flask import Flask, Response
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


@dataclass(frozen=True)
class Answer:
    """An answer before any framework: status, body, headers."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


_ENCODER = json.JSONEncoder(separators=(",", ":"))
JSON = ("Content-Type", "application/json")
TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


def json_answer(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return `value` as JSON."""
    return Answer(status, _ENCODER.encode(value).encode() + b"\n", (JSON, *headers))


def text_answer(content: str) -> Answer:
    """Return `content` as plain text that no cache keeps."""
    return Answer(200, content.encode(), TEXT)


def refusal(status: int, reason: str) -> Answer:
    """Return a refusal as JSON; on 429 and 503 with the time to wait."""
    wait = (("Retry-After", str(RETRY_SECONDS)),) if status in (429, 503) else ()
    return json_answer({"reason": reason}, status, wait)


def answer_to(error: Exception) -> Answer:
    """Return the answer to a request that ended in `error`; what nobody expected is logged and answered 500."""
    match error:
        case Refusal():
            return refusal(error.status, error.reason)
        case Refused() | IllegalTransition():
            return refusal(409, str(error))
        case StateError():
            log.error("the store failed: %s", error)
            return refusal(503, "the appliance's store is in trouble; ask again")
        case HTTPException():
            code = error.code or 500
            status = 404 if code in (301, 302, 307, 308, 405) else code
            return refusal(status, TEXTS.get(status, "the request cannot be answered"))
    log.error("our failure", exc_info=error)
    return refusal(500, "the appliance failed; its log says why")


def response_of(answer: Answer) -> Response:
    """Return `answer` as Flask's own."""
    return Response(answer.body, answer.status, list(answer.headers))


def refused(status: int, reason: str) -> Response:
    """Return a refusal as JSON; on 429 and 503 with the time to wait."""
    return response_of(refusal(status, reason))


def text(content: str) -> Response:
    """Return `content` as plain text that no cache keeps."""
    return response_of(text_answer(content))


def json_of(record: BaseModel) -> dict[str, object]:
    """Return a record as a JSON object with camelCase keys, times in RFC 3339."""
    return record.model_dump(mode="json", by_alias=True)


def install_error_handlers(app: Flask) -> None:
    """Answer every error as JSON with a reason."""
    app.register_error_handler(Exception, lambda error: response_of(answer_to(error)))
