"""The three sample configurations give the bytes that are committed here; review a change as a diff.

The texts of the installer, its part for makers' installers and the report are left out of the comparison: they have
tests of their own.
"""

import shutil

import pytest

from bootstrap import sums
from bootstrap.disk import read_bundle, write_bundle
from bootstrap.render.bundle import File, render_bundle
from bootstrap.render.ignition import data_url
from tests import samples


def shown(path: str, file: File) -> File:
    """Return `file`, in Ignition documents with the data URL of each script replaced by a word."""
    if not path.endswith(".ign"):
        return file
    content = file.content.decode()
    for name in ("install", "maker", "report"):
        text = samples.files_of(file.content).get(f"/opt/firstlight/{name}")
        if text is not None:
            content = content.replace(data_url(text[0]), f"(configs/installer/{name})")
    return File(content.encode(), file.mode)


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_sample_gives_its_golden_tree(name: str, *, update_golden: bool) -> None:
    rendered = {path: shown(path, file) for path, file in samples.bundle(name).items()}
    golden = samples.GOLDEN / name

    if update_golden:
        shutil.rmtree(golden, ignore_errors=True)
        write_bundle(golden, rendered)
        (golden / sums.NAME).unlink()

    committed = {path: file.content for path, file in read_bundle(golden).items()}
    assert {path: file.content for path, file in rendered.items()} == committed


@pytest.mark.parametrize("name", samples.NAMES)
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    again = render_bundle(samples.cluster(name).model_copy(deep=True), samples.KEYRING)

    assert again == samples.bundle(name)
    assert list(again) == sorted(again)


def test_the_golden_trees_hold_no_path_of_this_computer() -> None:
    for name in samples.NAMES:
        for path, file in samples.bundle(name).items():
            assert str(samples.ROOT).encode() not in file.content, path
