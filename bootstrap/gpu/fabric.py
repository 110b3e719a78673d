"""Whether the GPUs of a board of eight are linked: without NVIDIA's fabric manager CUDA does not start there: pure."""

from collections.abc import Iterator

from bootstrap.gpu.reported import Report
from bootstrap.gpu.resolver import products_of
from bootstrap.gpu.smi import is_unknown

QUERY = "index,fabric.state,fabric.status"
"""As `nvidia-smi --query-gpu` takes it, with `--format=csv,noheader,nounits`; old drivers do not know these fields."""
DONE, WELL = "completed", "success"


def is_switched(said: Report) -> bool:
    """Return whether NVSwitches link the GPUs; one GPU alone has nothing to be linked to."""
    return len(said.devices) > 1 and any(product.is_switched for product in products_of(said.ids))


def unlinked(said: Report) -> list[str]:
    """Return the GPUs that the driver says are not linked, each with its words."""
    return [
        f"GPU {index}: {state}" + ("" if is_unknown(status) else f", {status}")
        for index, state, status in _states(said)
        if state.lower() != DONE or not (is_unknown(status) or status.lower() == WELL)
    ]


def is_known(said: Report) -> bool:
    """Return whether the driver says of each GPU whether it is linked."""
    return len(list(_states(said))) >= len(said.devices)


def _states(said: Report) -> Iterator[tuple[str, str, str]]:
    """Yield index, state and status of each GPU of which the driver knows the state."""
    for line in said.fabric:
        index, _, rest = line.partition(",")
        state, _, status = rest.partition(",")
        if state.strip() and not is_unknown(state.strip()):
            yield index.strip(), state.strip(), status.strip()
