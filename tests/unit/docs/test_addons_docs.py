"""docs/addons.md: its YAML loads, its commands run, its images are the program's, its error is what check prints."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

import bootstrap.addons
from bootstrap import config, rooms, steps
from bootstrap.adding.rendering import addon, chosen
from bootstrap.addons import Image
from bootstrap.cli import addons, run
from bootstrap.errors import ConfigError
from bootstrap.kubernetes.releases import RELEASES
from tests.unit.addons.fake_api import FakeApi
from tests.unit.addons.worlds import DOCUMENT

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/addons.md").read_text()
YAML = [
    dedent(text)
    for text in re.findall(
        r"<!-- config: run over configs/example.yaml -->\n *```yaml\n(.*?)```", TEXT, re.DOTALL
    )
]
(COMMANDS,) = re.findall(r"<!-- run: addon -->\n```sh\n(.*?)```", TEXT, re.DOTALL)
SHOWN = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
NEEDS = TEXT.partition("## Before Kubeflow")[2].partition("## Images")[0]
OLDEST, NEWEST = min(RELEASES), max(RELEASES)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config.yaml").write_text((ROOT / "configs/example.yaml").read_text())
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "10.yaml").write_bytes(DOCUMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(name="command")
def fixture_command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str], str], tuple[int, str, str]]:
    """Run a command with a YAML of the page over the example, and one likeness of a cluster for all of them."""
    likeness = FakeApi()
    likeness.lists = {"api/v1/nodes": [], "apis/storage.k8s.io/v1/storageclasses": []}
    for room in (addons, steps):
        monkeypatch.setattr(room, "Api", lambda _: likeness)
    monkeypatch.setattr(FakeApi, "close", lambda _: None, raising=False)

    def command(words: list[str], yaml: str) -> tuple[int, str, str]:
        assert words[:2] == ["--config", "config.yaml"]
        (folder / "addons.yaml").write_text(yaml)
        over = ("--config", "config.yaml", "--config", "addons.yaml")
        code = run(["--deploy", str(folder / "deploy"), *over, *words[2:]])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_its_yaml_loads_and_is_of_the_addons_that_it_tells_of(folder: Path) -> None:
    names = []
    for text in YAML:
        (folder / "addons.yaml").write_text(text)
        names.append([one.name for one in chosen(config.load([Path("config.yaml"), Path("addons.yaml")]))])

    assert names[0] == [
        *("coredns", "metrics-server", "metallb", "ingress", "nfs-provisioner"),
        *("nvidia-device-plugin", "dcgm-exporter", "gpu-feature-discovery"),
    ]
    assert names[1] == ["nvidia-device-plugin", "nfs-provisioner"]
    assert names[2] == ["nvidia-device-plugin", "manifests", "coredns"]


def test_its_commands_run(command: Callable[[list[str], str], tuple[int, str, str]]) -> None:
    done = {}
    for line in COMMANDS.splitlines():
        words = shlex.split(line)[2:]
        done[" ".join(words[3:])] = command(words, YAML[0])

    codes = {words: code for words, (code, _, _) in done.items()}
    assert codes == {**dict.fromkeys(done, 0), "check --timeout 2": 1}
    assert done["list"][1].splitlines()[1].split()[:4] == ["coredns", "yes", "0", "-"]
    assert "kind: Deployment" in done["render coredns"][1]
    assert done["diff"][1] == done["apply --dry-run"][1]
    assert "+++ wanted/DaemonSet/metallb-system/speaker" in done["diff"][1]
    assert "applied APIService/v1beta1.metrics.k8s.io" in done["apply"][2]
    assert "nothing changed" in done["apply metallb coredns"][2]
    assert "-DaemonSet/kube-system/dcgm-exporter" in done["remove dcgm-exporter"][1]
    needs = [line.split()[:2] for line in done["check --timeout 2"][1].splitlines()[1:]]
    assert needs == [[need, "no"] for need in re.findall(r"^\| `([a-z]+)` \| .* \|$", NEEDS, re.MULTILINE)]
    assert "dcgm-exporter is in the configuration still" in done["remove dcgm-exporter"][2]


def test_what_is_not_configured_or_not_there_is_told(
    command: Callable[[list[str], str], tuple[int, str, str]],
) -> None:
    words = ["--config", "config.yaml", "addon"]

    assert command([*words, "apply", "metallb"], YAML[2])[0] == 2
    code, _, err = command([*words, "remove", "metallb"], YAML[2])
    assert (code, err) == (2, "no addon metallb was brought to the cluster (none)\n")


def test_its_error_is_what_check_prints(folder: Path) -> None:
    text = (folder / "config.yaml").read_text()
    broken = re.sub(
        r"addons:.*?\n\n",
        f"addons:\n  - metallb: {{addresses: [{'192.168.1.190-192.168.1.210'}]}}\n\n",
        text,
        flags=re.DOTALL,
    )
    (folder / "config.yaml").write_text(broken)
    with pytest.raises(ConfigError) as caught:
        config.load([Path("config.yaml")])

    def without_place(line: str) -> str:
        return re.sub(r":\d+:\d+:|line \d+", "", line)

    assert without_place(SHOWN[0].strip()) in map(without_place, str(caught.value).splitlines())


def test_its_images_are_those_of_the_addons() -> None:
    rows = re.findall(r"^\| `(\S+:\S+)` \| (.*?) \|$", TEXT, re.MULTILINE)
    wanted: dict[Image, list[int]] = {}
    for name in rooms.names(bootstrap.addons):
        for minor in RELEASES:
            for image in addon(name).images(minor):
                wanted.setdefault(image, []).append(minor)

    assert {name for name, _ in rows} == {image.name for image in wanted}
    told = dict(rows)
    for image, minors in wanted.items():
        assert ("**by tag alone**" in told[image.name]) is (image.digest is None), image
        assert ("v1.20" in told[image.name] or told[image.name].startswith("all")) is (OLDEST in minors), (
            image
        )
        assert (f"v1.{NEWEST}" in told[image.name] or told[image.name].startswith("all")) is (
            NEWEST in minors
        ), image
