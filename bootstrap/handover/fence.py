"""The fence: a file of the work folder that says that the appliance was handed over, and so does not start here."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from bootstrap import failpoints
from bootstrap.disk import sync_folder, write_file
from bootstrap.errors import StateError, UsageError
from bootstrap.workplace import FENCE

FILE = FENCE
OWNER_ONLY = 0o600


class Fence(BaseModel):
    """Which handover it is, to which node of the cluster and since when; `stage` says how far it came.

    `closed`: nothing starts here any more, and nothing runs there. `open`: the appliance there may run, and what it
    writes is newer than what is here. `is_laid`: both parts were ready there, so the state lies on the node, and the
    cluster is not given it again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    node: str
    at: datetime
    stage: Literal["closed", "open"]
    is_laid: bool = False


def read(work: Path) -> Fence | None:
    """Return the fence of a work folder, or None.

    Raises:
        StateError: it is damaged.
    """
    path = work / FILE
    try:
        return Fence.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]["msg"]
        raise StateError(
            f"{path}: is damaged ({first}); the appliance may run in the cluster: make sure that it does not"
            " (kubectl get pods --namespace firstlight), then remove the file"
        ) from error


def write(work: Path, fence: Fence) -> None:
    """Put up the fence; it holds across a power cut when this returns.

    Raises:
        OSError: it could not be written.
    """
    values = json.loads(fence.model_dump_json())
    write_file(work / FILE, (json.dumps(values, indent=1) + "\n").encode(), OWNER_ONLY)
    failpoints.reached("handover.fence.after")


def remove(work: Path) -> None:
    """Take the fence away."""
    (work / FILE).unlink(missing_ok=True)
    sync_folder(work)


def refuse(work: Path, name: str) -> None:
    """Return if the appliance of the cluster called `name` may run here.

    Raises:
        UsageError: it was handed over.
        StateError: the fence is damaged.
    """
    found = read(work)
    if found is None:
        return
    when = f"{found.at:%Y-%m-%d %H:%M} UTC"
    raise UsageError(
        f"the appliance of {name} was handed over to node {found.node} of its cluster on {when}, and two of it would"
        " give out the same addresses; bring it back first: handover --back"
    )
