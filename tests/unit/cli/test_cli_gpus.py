"""gpu status and gpu run-sample: what people see, and the exit codes."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.alias_generators import to_camel

from bootstrap.cli import gpus, machines
from bootstrap.gpu.sample import Seen
from bootstrap.gpu.smi import card_from
from bootstrap.gpu.taint import TAINT
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.sample import Ended, Wait
from bootstrap.kubernetes.seen import NodeMarks
from bootstrap.operator import NotRunning, Operator
from tests.unit.gpu.reports import line

Firstlight = Callable[..., Any]
VERDICT = "device: no NVIDIA device on PCI; look at Above 4G decoding in the firmware"


def node(name: str, *lines: str, **told: Any) -> dict[str, Any]:
    cards = [card for text in lines if (card := card_from(text))]
    found = [{to_camel(key): value for key, value in asdict(card).items()} for card in cards]
    blank: dict[str, Any] = {
        "state": "ready",
        "part": "",
        "verdict": "",
        "alarm": "",
        "silent": "",
        "cards": found,
    }
    return {"name": name, "pool": "gpu8", **blank, **told}


WELL = node("w1", line(0), line(1, errors="[N/A]"))
HELD = node("w2", state="no-device", part="device", verdict=VERDICT)
LOST = node("w3", line(0), alarm="GPU 0000:02:00.0 has vanished from PCI")


class Fake(Operator):
    def __init__(self, *found: dict[str, Any], trouble: str = "") -> None:
        super().__init__(Path("none"))
        self._found, self._trouble = list(found), trouble

    def gpus(self) -> list[dict[str, Any]]:
        return self._found

    def gate_trouble(self) -> str:
        return self._trouble


@pytest.fixture
def appliance(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def has(*found: dict[str, Any], trouble: str = "") -> None:
        for room in (gpus, machines):
            monkeypatch.setattr(room, "operator", lambda _: Fake(*found, trouble=trouble))

    return has


def test_every_gpu_has_a_row_as_nvidia_smi_shows_it(
    firstlight: Firstlight, configs: Path, appliance: Callable[..., None]
) -> None:
    appliance(WELL)
    done = firstlight("--config", configs / "example.yaml", "gpu", "status")

    assert (done.code, done.err) == (0, "")
    heads, first, second = (row.split("  ") for row in done.out.splitlines())
    assert [cell.strip() for cell in heads if cell.strip()] == list(gpus.HEADINGS)
    assert [cell.strip() for cell in first if cell.strip()] == [
        *("w1", "0", "NVIDIA H100 80GB HBM3", "0000:01:00.0", "570.133.20", "34C", "71W / 700W"),
        *("0MiB / 81559MiB", "0%", "0", "gen5 x16", "-", "ready"),
    ]
    assert [cell.strip() for cell in second if cell.strip()][9] == "-"


def test_a_node_that_is_held_or_has_lost_a_gpu_is_named_with_what_to_do(
    firstlight: Firstlight, configs: Path, appliance: Callable[..., None]
) -> None:
    appliance(WELL, HELD, LOST)
    done = firstlight("--config", configs / "example.yaml", "gpu", "status")

    assert done.code == 1
    assert done.err.splitlines() == [
        f"w2: held back: {VERDICT}",
        "w3: ALARM: GPU 0000:02:00.0 has vanished from PCI",
    ]
    assert done.out.splitlines()[3].split() == ["w2", *["-"] * 11, "no-device"]


def test_a_node_of_which_nothing_is_heard_and_a_gate_in_trouble_are_told_and_exit_1(
    firstlight: Firstlight, configs: Path, appliance: Callable[..., None]
) -> None:
    silence = "not heard of for 7d; journalctl -u firstlight-gpu on the node"
    appliance(node("w1", line(0), silent=silence))
    done = firstlight("--config", configs / "example.yaml", "gpu", "status")
    assert (done.code, done.err) == (1, f"w1: silent: {silence}\n")

    appliance(WELL, trouble="nodes w1: 403: a webhook")
    done = firstlight("--config", configs / "example.yaml", "gpu", "status")
    assert (done.code, done.err) == (1, "the gate could not look after nodes: nodes w1: 403: a webhook\n")


def test_instances_are_shown_beside_the_gpu_that_they_are_of(
    firstlight: Firstlight, configs: Path, appliance: Callable[..., None]
) -> None:
    mig = [
        {
            "index": 1,
            "current": "Enabled",
            "pending": "Enabled",
            "profiles": ["1g.10gb", "3g.40gb"],
            "instances": 2,
        }
    ]
    appliance(node("w1", line(0), line(1), mig=mig))
    done = firstlight("--config", configs / "example.yaml", "gpu", "status")

    whole, parted = done.out.splitlines()[1:]
    assert whole.split()[-2:] == ["-", "ready"]
    assert parted.endswith("1 x 3g.40gb, 1 x 1g.10gb  ready")


def test_a_program_gets_all_of_it(
    firstlight: Firstlight, configs: Path, appliance: Callable[..., None]
) -> None:
    appliance(WELL, HELD)

    assert firstlight("--config", configs / "example.yaml", "-o", "json", "gpu", "status").json() == [
        WELL,
        HELD,
    ]


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    def ends(seen: Seen, log: str = "") -> list[Any]:
        asked: list[Any] = []

        def run(jobs: object, job: dict[str, Any], wait: Wait) -> Ended:
            del jobs
            asked.extend((job["spec"]["template"]["spec"], wait.seconds))
            wait.tell(str(seen))
            return Ended(seen, log)

        monkeypatch.setattr(gpus, "run", run)
        return asked

    return ends


def test_a_sample_that_succeeds_prints_its_log(
    firstlight: Firstlight, configs: Path, sample: Callable[..., list[Any]]
) -> None:
    asked = sample(Seen("p", "Succeeded", "w1"), "Test PASSED\n")
    done = firstlight("--config", configs / "example.yaml", "gpu", "run-sample", "--timeout", "9")

    assert (done.code, done.out, done.err) == (0, "Test PASSED\n", "sample: Succeeded on w1\n")
    pod, seconds = asked
    assert seconds == 9
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert "command" not in pod["containers"][0]
    assert pod["runtimeClassName"] == "nvidia"


def test_a_sample_asks_for_an_instance_that_a_node_can_give(
    firstlight: Firstlight,
    configs: Path,
    tmp_path: Path,
    sample: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (configs / "example.yaml").read_text()
    site = tmp_path / "site.yaml"
    pool = next(one for one in yaml.safe_load(text)["pools"] if one.get("gpu"))
    site.write_text(
        f"pools:\n  - name: {pool['name']}\n    gpu: {{products: [h100-sxm], mig: [3g.40gb, 1g.10gb, 1g.10gb]}}\n"
    )
    held, free = (
        NodeMarks(
            name=name, revision="1", labels={}, taints=taints, instances={f"nvidia.com/mig-{profile}": 2}
        )
        for name, taints, profile in (("w1", (TAINT,), "1g.10gb"), ("w2", (), "3g.40gb"))
    )
    monkeypatch.setattr(Api, "node_marks", lambda _: [held, free])
    asked = sample(Seen("p", "Succeeded", "w2"), "Test PASSED\n")
    done = firstlight("--config", configs / "example.yaml", "--config", site, "gpu", "run-sample")

    assert done.code == 0, done.err
    assert asked[0]["containers"][0]["resources"] == {"limits": {"nvidia.com/mig-3g.40gb": "1"}}


def test_a_sample_that_runs_too_long_is_not_silent(
    firstlight: Firstlight, configs: Path, sample: Callable[..., list[Any]]
) -> None:
    sample(Seen("p", "Running", "w1"), "step 1\n")
    done = firstlight("--config", configs / "example.yaml", "gpu", "run-sample", "--timeout", "9")

    assert (done.code, done.out) == (1, "step 1\n")
    assert done.err.splitlines()[-1] == "still running on w1 after 9 s; its output so far:"


def test_its_image_command_and_runtime_can_be_others(
    firstlight: Firstlight, configs: Path, sample: Callable[..., list[Any]]
) -> None:
    asked = sample(Seen("p", "Failed", "w1", "exit code 1"), "no\n")
    words = ("--image", "localhost/x:1", "--runtime-class", "", "--", "nvidia-smi", "-L")
    done = firstlight("--config", configs / "example.yaml", "gpu", "run-sample", *words)

    assert (done.code, done.out) == (1, "no\n")
    container = asked[0]["containers"][0]
    assert (container["image"], container["command"]) == ("localhost/x:1", ["nvidia-smi", "-L"])
    assert "runtimeClassName" not in asked[0]


def test_one_that_finds_no_gpu_says_why_and_what_holds_nodes_back(
    firstlight: Firstlight,
    configs: Path,
    sample: Callable[..., list[Any]],
    appliance: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    appliance(HELD)
    sample(Seen("p", "Pending", "", "0/2 nodes are available"))
    words = ("--config", configs / "example.yaml", "gpu", "run-sample")
    done = firstlight(*words)

    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        "sample: Pending: 0/2 nodes are available",
        "no GPU was given to it in 600 s: 0/2 nodes are available",
        f"w2: held back: {VERDICT}",
    ]

    def away(_: object) -> Operator:
        raise NotRunning("nobody")

    monkeypatch.setattr(gpus, "operator", away)
    assert firstlight(*words).code == 1


@pytest.mark.parametrize("words", [["--timeout", "0"], ["--nosuch"]])
def test_wrong_words_are_usage(firstlight: Firstlight, configs: Path, words: list[str]) -> None:
    assert firstlight("--config", configs / "example.yaml", "gpu", "run-sample", *words).code == 2
