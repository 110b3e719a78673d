"""What compose.yaml says, from the same table as the engine's command lines; pure. A test compares the file with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bootstrap.containers.command import LABEL, SECURITY, TMPFS
from bootstrap.containers.images import Image
from bootstrap.containers.table import CONTAINERS, Container, Mount, Name, Root

VARIABLES: Mapping[Root, str] = {"work": "FIRSTLIGHT_WORK", "cache": "FIRSTLIGHT_CACHE"}
IMAGE = "FIRSTLIGHT_{}_IMAGE"
"""The variable with the name of an image."""


def document() -> dict[str, Any]:
    """Return compose.yaml as data (the Compose Specification, compose-spec.io)."""
    return {"name": "firstlight", "services": {name: _service(row) for name, row in CONTAINERS.items()}}


def settings(roots: Mapping[Root, Path], images: Mapping[Name, Image]) -> str:
    """Return the variables of one cluster, for `--env-file`."""
    values = {VARIABLES[root]: f"{path}" for root, path in roots.items()}
    values |= {IMAGE.format(name.upper()): image.tag for name, image in images.items()}
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _service(row: Container) -> dict[str, Any]:
    return {
        "image": _given(IMAGE.format(row.name.upper())),
        "pull_policy": "never",
        "restart": "unless-stopped",
        "network_mode": "host",
        "read_only": True,
        **({} if row.user is None else {"user": f"{row.user}:{row.user}"}),
        "cap_drop": ["ALL"],
        **({"cap_add": [*row.capabilities]} if row.capabilities else {}),
        "security_opt": [option.replace("label=", "label:") for option in SECURITY],
        "pids_limit": row.processes,
        "stop_grace_period": f"{row.stop_seconds}s",
        "tmpfs": [f"{target}:{TMPFS.format(size)}" for target, size in row.tmpfs.items()],
        "volumes": [_volume(mount) for mount in row.mounts],
        "labels": {LABEL: _given(VARIABLES["work"])},
    }


def _volume(mount: Mount) -> str:
    mode = "rw" if mount.is_writable else "ro"
    return f"{_given(VARIABLES[mount.root])}/{mount.path}:{mount.target}:{mode}"


def _given(variable: str) -> str:
    """Return what compose replaces by a variable, and refuses to go on without."""
    return f"${{{variable}:?use --env-file}}"
