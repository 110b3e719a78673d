"""What an upgrade of a node's GPU driver writes on the node itself, so that another run can go on with it: pure."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

ANNOTATION = "firstlight/gpu-upgrade"


class Stage(StrEnum):
    """Which way a node goes."""

    FORWARD = "forward"
    BACK = "back"


class Mark(BaseModel):
    """Where the upgrade of a node is.

    `arm` is the machine's arm when this stage began: with another one it was armed since. `driver` is what the node
    ran before, `535.274.02 (closed)`, and `image` the key of the image with it; empty if there is none. `cordoned` says
    that it took no pods before either. `reason` is why it goes back.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    stage: Stage
    arm: str = ""
    driver: str = ""
    image: str = ""
    cordoned: bool = False
    reason: str = ""


def mark_from(text: str) -> Mark | None:
    """Return the mark that a node carries; None if there is none, or another has written something there."""
    try:
        return Mark.model_validate_json(text) if text else None
    except ValidationError:
        return None


def patch_with(mark: Mark) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that puts `mark` on a node, and keeps new pods off it, in one step."""
    text = mark.model_dump_json(by_alias=True, exclude_defaults=True)
    return {"metadata": {"annotations": {ANNOTATION: text}}, "spec": {"unschedulable": True}}


def patch_without(mark: Mark) -> dict[str, Any]:
    """Return the merge patch that takes `mark` away, and lets pods come again if they did before."""
    after = {"spec": {"unschedulable": None}} if not mark.cordoned else {}
    return {"metadata": {"annotations": {ANNOTATION: None}}, **after}
