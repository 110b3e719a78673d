"""The trees of control-plane hosts, and the objects of a new cluster, give the bytes that are committed here.

What is secret or made of random keys is named instead of shown.
"""

import json
import shutil
from pathlib import Path

import pytest

from bootstrap.kubernetes.rbac import objects
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile
from certs.secret import Secret
from tests import samples
from tests.unit.kubernetes import planes

FOLDER = samples.GOLDEN / "control-plane"
CASES = {
    "lab-v1.20": ("lab", "m1", "v1.20.2", True),
    "example-v1.36": ("example", "m1", "v1.36.4", False),
    "ha-v1.33": ("ha", "m2", "v1.33.5", False),
}


def shown(file: HostFile) -> bytes:
    """Return the content, or what stands for one that is secret or another each time."""
    match file.content:
        case Secret():
            return b"(secret)\n"
        case LocalFile(path=path):
            return f"(program {path.name})\n".encode()
        case content if b"-----BEGIN" in content:
            return b"(PEM)\n"
        case content:
            return content


def listing(tree: HostTree) -> bytes:
    """Return modes and owners of all files, and which units read what."""
    files = [f"{file.mode:04o} {file.owner}:{file.group} {path}" for path, file in tree.files.items()]
    units = [line for unit in tree.units for line in ("", f"{unit.name} ({unit.user})", *unit.reads)]
    return ("\n".join((*files, *units)) + "\n").encode()


def written(tree: HostTree) -> dict[str, bytes]:
    """Return what is compared, by path."""
    texts = {path.removeprefix("/"): shown(file) for path, file in tree.files.items()}
    # Scripts have tests of their own.
    told = {path: text for path, text in texts.items() if not text.startswith((b"(", b"#!"))}
    return {"LISTING": listing(tree), **told}


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_a_host_gets_its_golden_tree(case: str, *, update_golden: bool) -> None:
    name, host, version, nodes = CASES[case]
    rendered = written(planes.tree_of(name, host, version=version, nodes=nodes))
    golden = FOLDER / case

    if update_golden:
        shutil.rmtree(golden, ignore_errors=True)
        for path, content in rendered.items():
            (golden / path).parent.mkdir(parents=True, exist_ok=True)
            (golden / path).write_bytes(content)

    assert rendered == read(golden)


def test_a_cluster_gets_its_golden_objects(*, update_golden: bool) -> None:
    text = json.dumps(objects(), indent=1) + "\n"
    golden = FOLDER / "objects.json"

    if update_golden:
        golden.write_text(text)

    assert text == golden.read_text()
