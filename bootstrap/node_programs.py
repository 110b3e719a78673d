"""What nodes fetch, as `up` put it into the artifact store: written down for rendering, which reads no big files.

Apart from where programs come from (bootstrap/binaries.py): web renders too, and downloads nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bootstrap.artifacts import Artifact
from bootstrap.disk import write_file
from bootstrap.errors import PreflightError
from bootstrap.programs import CNI_PLUGINS, IMAGE

RECORD = "binaries.json"

Sums = Mapping[str, str]


def node_sums(found: Mapping[str, Artifact]) -> tuple[Sums, Sums, Sums]:
    """Return the sums of the programs, those of the images and those of the CNI plugins of `found`, by file name."""
    sums = {name: artifact.sha256 for name, artifact in found.items()}
    images = {name: sum_ for name, sum_ in sums.items() if name.endswith(IMAGE)}
    plugins = {name: sum_ for name, sum_ in sums.items() if name in CNI_PLUGINS}
    programs = {name: sum_ for name, sum_ in sums.items() if name not in images and name not in plugins}
    return programs, images, plugins


def record(work: Path, found: Mapping[str, Artifact]) -> None:
    """Write down which programs nodes fetch, for rendering, which reads no big files."""
    values = {name: asdict(artifact) for name, artifact in found.items()}
    write_file(work / RECORD, json.dumps(values, indent=2, sort_keys=True).encode() + b"\n", 0o600)


def recorded(work: Path) -> Mapping[str, Artifact]:
    """Return what `record` wrote; nothing if it never did.

    Raises:
        PreflightError: the file is damaged.
    """
    path = work / RECORD
    try:
        values = json.loads(path.read_bytes())
        return {name: Artifact(sha256=value["sha256"], size=value["size"]) for name, value in values.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PreflightError(
            f"{path} cannot be read ({error}); remove it, and `up` writes it again"
        ) from error
