import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.maker_images import mirrored

ROOT = Path(__file__).parents[3]
WRONG = ROOT / "tests/wrong_configs"
SAMPLES = sorted((ROOT / "configs").glob("*.yaml"))
MAKERS = {"example": ["flatcar"], "ha": ["flatcar", "fedora-coreos"]}
PULL = "run mirror pull with this configuration"
Firstlight = Callable[..., Any]
Snapshot = Callable[[], dict[str, bytes]]
GPUS = ", any GPU on "


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_passes_check(firstlight: Firstlight, sample: Path, snapshot: Snapshot) -> None:
    before = snapshot()

    done = firstlight("--config", sample, "check")

    assert (done.code, done.err) == (0, "")
    first, *more = [line for line in done.out.splitlines() if GPUS not in line]
    assert first.startswith(f"{sample}: cluster ")
    assert first.endswith(", no problems")
    # Images of other makers come from the mirror, which is not there.
    assert [line.split()[2] for line in more] == MAKERS.get(sample.stem, [])
    assert all(line.startswith("not yet: ") and line.endswith(PULL) for line in more)
    assert snapshot() == before


def test_check_says_nothing_of_an_image_that_is_mirrored(
    firstlight: Firstlight, configs: Path, deploy: Path
) -> None:
    mirrored(deploy / "cache" / "mirror", "flatcar")
    done = firstlight("--config", configs / "example.yaml", "check")

    assert done.code == 0
    assert [GPUS in line for line in done.out.splitlines()] == [False, True]


@pytest.mark.parametrize("release", ["4593.2.9", "beta"])
def test_a_release_that_is_not_in_the_mirror_is_one_line_of_check_and_plan(
    release: str, firstlight: Firstlight, configs: Path, deploy: Path, tmp_path: Path
) -> None:
    mirrored(deploy / "cache" / "mirror", "flatcar")
    config = tmp_path / "rack.yaml"
    config.write_text(
        (configs / "example.yaml")
        .read_text()
        .replace("release: 4593.2.5", f"release: {release}")
        .replace("installCuda: true", "installCuda: false")  # which driver is for one release only
    )
    for verb in ("check", "plan"):
        done = firstlight("--config", config, verb)
        lines = [line for line in done.out.splitlines() if line.startswith("not yet: ")]

        assert (done.code, done.err, len(lines)) == (0, "", 1)
        assert lines[0].startswith(f"not yet: flatcar {release} is not in the mirror ")
        assert lines[0].endswith(f"(it has: 4593.2.5); {PULL}")


def test_a_damaged_lock_is_one_line_of_check(firstlight: Firstlight, configs: Path, deploy: Path) -> None:
    mirrored(deploy / "cache" / "mirror", "flatcar")
    (deploy / "cache" / "mirror" / "mirror.lock.json").write_text("{}")
    done = firstlight("--config", configs / "example.yaml", "check")

    assert (done.code, done.err) == (0, "")
    assert [
        line.startswith("not yet: ") and "mirror.lock.json is damaged" in line
        for line in done.out.splitlines()
    ] == [False, False, True]


@pytest.mark.parametrize("directory", ["x" * 300, "circle/there", "a-file"])
def test_a_mirror_that_cannot_be_read_is_one_line_of_check(
    directory: str, firstlight: Firstlight, configs: Path, tmp_path: Path
) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "a-file").write_text("")
    (tmp_path / "more.yaml").write_text(f"mirror: {{directory: {directory}}}\n")
    done = firstlight("--config", configs / "example.yaml", "--config", tmp_path / "more.yaml", "check")

    assert (done.code, done.err) == (0, "")
    assert [line.startswith("not yet: ") for line in done.out.splitlines()] == [False, False, True]


def test_there_are_four_samples() -> None:
    assert [path.stem for path in SAMPLES] == ["example", "ha", "lab-ha", "lab"]


@pytest.mark.parametrize("verb", ["check", "plan", "render --output out", "certs status", "up", "down"])
def test_a_wrong_config_gives_every_line_and_writes_nothing(
    firstlight: Firstlight, snapshot: Snapshot, verb: str
) -> None:
    expected = max(WRONG.glob("*.expected"), key=lambda path: len(path.read_text().splitlines()))
    case = expected.with_suffix(".yaml")
    before = snapshot()

    done = firstlight("--config", case, *verb.split())

    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [f"{case}:{line}" for line in expected.read_text().splitlines()]
    assert snapshot() == before


def test_later_files_lie_over_earlier_ones(firstlight: Firstlight, configs: Path, tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("metadata: {name: rack9}\n")
    both = ("--config", configs / "example.yaml", "--config", over)

    done = firstlight(*both, "check")
    assert done.out.startswith(f"{configs / 'example.yaml'} + {over}: cluster rack9, ")

    done = firstlight(*both, "check", "--explain", "metadata.name")
    assert done.out == f"metadata.name = rack9  ({over}:1:18)\n"


def test_a_key_that_is_none_cannot_be_explained(firstlight: Firstlight, configs: Path) -> None:
    done = firstlight("--config", configs / "example.yaml", "check", "--explain", "metadata.nam")

    assert (done.code, done.out) == (2, "")
    assert "metadata.nam" in done.err


def test_without_config_yaml_the_samples_are_named(firstlight: Firstlight) -> None:
    done = firstlight("check")

    assert (done.code, done.out) == (2, "")
    assert "configs/example.yaml" in done.err
    assert len(done.err.splitlines()) == 1


def test_config_yaml_here_is_found(firstlight: Firstlight, configs: Path) -> None:
    Path("config.yaml").write_bytes((configs / "example.yaml").read_bytes())

    assert firstlight("check").out.startswith("config.yaml: cluster rack1, ")


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(firstlight: Firstlight, name: str) -> None:
    done = firstlight("--config", name, "check")

    assert done.code == 2
    assert done.err.startswith(f"{name}:1:1: cannot be read: ")


def test_the_schema_is_the_committed_file(firstlight: Firstlight, configs: Path) -> None:
    done = firstlight("schema")

    assert done.code == 0
    assert done.out == (configs / "config.schema.json").read_text()
    assert json.loads(done.out)["$schema"].startswith("https://json-schema.org/draft/2020-12/")
