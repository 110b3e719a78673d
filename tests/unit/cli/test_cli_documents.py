import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap.disk import read_bundle

Firstlight = Callable[..., Any]
Snapshot = Callable[[], dict[str, bytes]]


@pytest.fixture
def example(configs: Path) -> tuple[str, str]:
    return ("--config", str(configs / "example.yaml"))


def lines(text: str) -> list[str]:
    """Return what a plan says without what hangs on keys that are made up anew each time."""
    return [line for line in text.partition("--- ")[0].splitlines() if " bytes)" not in line]


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("name", ["example", "ha", "lab"])
def test_plan_writes_nothing_and_says_the_same_again(
    firstlight: Firstlight, configs: Path, snapshot: Snapshot, name: str
) -> None:
    before = snapshot()

    first = firstlight("--config", configs / f"{name}.yaml", "plan")
    second = firstlight("--config", configs / f"{name}.yaml", "plan")

    assert (first.code, first.err) == (0, "")
    assert snapshot() == before
    assert lines(first.out) == lines(second.out) != []
    assert "+++ bundle/pxe/dnsmasq.conf\n" in first.out


@pytest.mark.usefixtures("as_user")
def test_render_needs_no_program_and_no_root(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path, deploy: Path
) -> None:
    done = firstlight(*example, "render", "--output", tmp_path / "out")

    assert (done.code, done.out) == (0, "")
    found = read_bundle(tmp_path / "out")
    assert {"pxe/dnsmasq.conf", "web/nginx.conf", "web/boot.ipxe", "machines/w1/live.ign"} <= found.keys()
    assert done.err == f"{len(found)} documents in {tmp_path / 'out'}\n"
    assert stat.S_IMODE((deploy / "rack1").stat().st_mode) == 0o700


def test_a_second_render_writes_the_same_bytes(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        firstlight(*example, "render", "--output", tmp_path / name)

    assert read_bundle(tmp_path / "one") == read_bundle(tmp_path / "two") != {}


def test_plan_of_what_is_applied_says_that_nothing_changes(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path, snapshot: Snapshot, deploy: Path
) -> None:
    firstlight(*example, "render", "--output", deploy / "rack1" / "bundle")
    before = snapshot()

    done = firstlight(*example, "plan")

    first_time = "apply the control plane to m1 for the first time; `apply --dry-run` shows it whole"
    gpus, *lines = done.out.splitlines()
    assert gpus.startswith("pool gpu8, any GPU on flatcar 4593.2.5: driver 570 (open)")
    assert lines[:2] == ["nothing changes", first_time]
    assert [line.split()[:4] for line in lines[2:]] == [
        ["not", "yet:", "flatcar", "4593.2.5"],
    ]
    assert snapshot() == before
    assert tmp_path in deploy.parents


DECLARED = """\
pools:
  - name: gpu8
    os: {family: flatcar, release: 4593.2.5}
    disk: {select: {type: nvme}}
    gpu: {cudaVersion: "12.8", expected: 8, products: [h100-sxm]}
"""


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_a_pool_that_declares_its_gpus_shows_their_driver(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path, verb: str
) -> None:
    over = tmp_path / "gpus.yaml"
    over.write_text(DECLARED)
    line = (
        "pool gpu8, 8 x H100 80GB HBM3 on flatcar 4593.2.5: driver 570 (open), sysext nvidia-drivers-570-open; "
        "boards of eight H100 80GB HBM3 need NVIDIA's fabric manager too, which is not offered there; "
        "NVIDIA's updates of 570 end 2026-02"
    )

    done = firstlight(*example, "--config", over, verb)

    assert (done.code, done.err) == (0, "")
    assert line in done.out.splitlines()


def test_a_pool_whose_gpus_get_no_driver_is_refused_with_what_would_work(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path, snapshot: Snapshot
) -> None:
    over = tmp_path / "gpus.yaml"
    over.write_text(DECLARED.replace("family: flatcar, release: 4593.2.5", 'family: debian, release: "13"'))
    before = snapshot()

    done = firstlight(*example, "--config", over, "plan")

    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(
        f"{over}:5:5: pools.0.gpu: CUDA 12.8 wants driver 570 or later; debian 13 offers 535 (closed), "
    )
    assert line.endswith('; write cudaVersion: "12.4", or leave it out')
    assert snapshot() == before


def test_a_folder_with_brackets_is_named_as_it_is(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / f"[red]{'long' * 30}"

    assert firstlight(*example, "render", "--output", folder).err.endswith(f" documents in {folder}\n")


def test_render_never_replaces_somebodys_folder(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")

    done = firstlight(*example, "render", "--output", tmp_path / "home")

    assert done.code == 2
    assert "thesis.tex" in done.err
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years"


def test_render_asks_where_to(firstlight: Firstlight, example: tuple[str, str]) -> None:
    done = firstlight(*example, "render")

    assert done.code == 2
    assert "--output" in done.err


def test_a_fresh_folder_has_no_certificates(
    firstlight: Firstlight, example: tuple[str, str], snapshot: Snapshot
) -> None:
    before = snapshot()

    done = firstlight(*example, "-o", "json", "certs", "status")

    assert done.code == 1
    assert {row["status"] for row in done.json()} == {"missing"}
    assert snapshot() == before


def test_certs_are_renewed_and_shown(firstlight: Firstlight, example: tuple[str, str]) -> None:
    assert firstlight(*example, "render", "--output", "out").code == 0
    before = {row["file"]: row for row in firstlight(*example, "-o", "json", "certs", "status").json()}

    done = firstlight(*example, "certs", "renew", "apiserver")

    assert (done.code, done.out) == (0, "")
    assert "re-issued apiserver: as asked" in done.err.splitlines()
    status = firstlight(*example, "certs", "status")
    assert status.code == 0
    assert status.out.split()[:6] == ["FILE", "STATUS", "CN", "SANS", "EXPIRES", "ISSUER"]
    assert len(status.out.splitlines()) == len(before) + 1


def test_certs_renew_names_what_can_be_renewed(firstlight: Firstlight, example: tuple[str, str]) -> None:
    firstlight(*example, "render", "--output", "out")

    done = firstlight(*example, "certs", "renew", "apisrever")

    assert done.code == 2
    assert "'apisrever'" in done.err
    assert "apiserver" in done.err


@pytest.mark.parametrize("words", [["certs", "status"], ["image", "list"]])
def test_results_parse_as_json_and_yaml(
    firstlight: Firstlight, example: tuple[str, str], words: list[str]
) -> None:
    as_json = firstlight(*example, "-o", "json", *words)
    as_yaml = firstlight(*example, "--output", "yaml", *words)

    assert isinstance(as_json.json(), list)
    assert yaml.safe_load(as_yaml.out) == as_json.json()


def test_a_passphrase_file_that_others_can_read_is_refused(
    firstlight: Firstlight, example: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_text("open sesame\n")
    file.chmod(0o644)
    monkeypatch.setenv("FIRSTLIGHT_PASSPHRASE_FILE", str(file))

    done = firstlight(*example, "render", "--output", "out")

    assert done.code == 2
    assert str(file) in done.err
    assert "sesame" not in done.err


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("verb", ["up", "serve", "down", "image build", "lab up", "lab power status"])
def test_what_needs_root_says_so_in_one_line_and_does_nothing(
    firstlight: Firstlight, configs: Path, snapshot: Snapshot, verb: str
) -> None:
    before = snapshot()

    done = firstlight("--config", configs / "lab.yaml", *verb.split())

    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith(f"`{verb if verb[:3] != 'lab' else 'lab'}` needs root: ")
    assert "Traceback" not in done.err
    assert snapshot() == before


@pytest.mark.usefixtures("as_user")
def test_without_a_verb_it_is_up(firstlight: Firstlight, configs: Path) -> None:
    done = firstlight("--config", configs / "example.yaml")

    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("`up` needs root")


def test_a_real_rack_has_no_lab(firstlight: Firstlight, example: tuple[str, str]) -> None:
    done = firstlight(*example, "lab", "up")

    assert done.code == 2
    assert "has no `lab:` section" in done.err


def test_serve_without_documents_says_what_comes_first(
    firstlight: Firstlight, example: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    done = firstlight(*example, "serve")

    assert done.code == 1
    assert "run `up`, or `render` and `image build`, first" in done.err
