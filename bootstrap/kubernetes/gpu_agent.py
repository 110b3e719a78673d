"""What looks at a node's GPUs: a script, its timer, and what should be there. Nodes of other pools get nothing of it.

It comes with the served documents, not with the installation: a pool that gets a `gpu:` section later gets it too.
"""

from collections.abc import Iterator, Mapping

from bootstrap.gpu import fabric
from bootstrap.gpu.images import driver_of
from bootstrap.gpu.machine import is_required
from bootstrap.gpu.mig import layout
from bootstrap.gpu.smi import QUERY
from bootstrap.gpu.table import BY_KEY
from bootstrap.kubernetes.places import BIN, UNITS
from bootstrap.kubernetes.tree import HostFile
from bootstrap.model import Gpu, Pool
from bootstrap.templates import read, render

SETTINGS = "/etc/firstlight/gpu.env"
TIMER = "firstlight-gpu.timer"
SPREAD = 10
"""A tenth of the interval is left to chance, so that a rack does not knock in step."""

RESTARTS: Mapping[str, tuple[str, ...]] = {SETTINGS: (TIMER,), f"{UNITS}/{TIMER}": (TIMER,)}
"""A timer that is started anew runs at once: what should be there has changed."""


def files(pool: Pool) -> Iterator[tuple[str, HostFile]]:
    """Yield the documents of a node of `pool`; none without a `gpu:` section."""
    if pool.gpu is None:
        return
    seconds = pool.gpu.check_interval
    timer = render("systemd/firstlight-gpu.timer.j2", seconds=seconds, spread=seconds // SPREAD)
    yield f"{BIN}/gpu", HostFile(read("node/gpu").encode(), 0o755)
    yield f"{BIN}/gpu-mig", HostFile(read("node/gpu-mig").encode(), 0o755)
    yield f"{UNITS}/firstlight-gpu.service", HostFile(read("systemd/firstlight-gpu.service").encode())
    yield f"{UNITS}/{TIMER}", HostFile(timer.encode())
    # Nobody enables a unit that comes as a file: the target is told to want it.
    wanted = read("systemd/firstlight-gpu-wanted.conf").encode()
    yield f"{UNITS}/timers.target.d/10-firstlight-gpu.conf", HostFile(wanted)
    yield SETTINGS, HostFile(_settings(pool, pool.gpu).encode())


def _settings(pool: Pool, gpu: Gpu) -> str:
    """Return what should be there, as assignments of a shell; all of it are words of ours.

    All nodes of a pool get one driver, which is decided before anyone has looked.
    """
    source = driver_of(pool)
    values = {
        "GPU_REQUIRED": _yes(is_required(gpu)),
        "GPU_EXPECTED": str(gpu.expected or ""),
        "GPU_INSTALL": _yes(gpu.install_cuda),
        "GPU_IDS": " ".join(one for key in gpu.products if key in BY_KEY for one in BY_KEY[key].ids),
        "GPU_BRANCH": str(source.branch) if source else "",
        "GPU_FLAVOUR": str(source.flavour) if source else "",
        "GPU_ROUTE": str(source.route) if source else "",
        "GPU_NAMES": " ".join(source.names) if source else "",
        "GPU_QUERY": QUERY,
        "GPU_FABRIC_QUERY": fabric.QUERY,
        "GPU_MIG": ",".join(layout(gpu)),
    }
    return "".join(f"{key}='{value}'\n" for key, value in values.items())


def _yes(claim: bool) -> str:  # noqa: FBT001  # the claim itself
    return "yes" if claim else "no"
