import base64
import json
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Firstlight = Callable[..., Any]


@pytest.fixture(name="rendered")
def fixture_rendered(firstlight: Firstlight, configs: Path, tmp_path: Path) -> tuple[str, str]:
    """The options of a cluster that has its certificates."""
    options = ("--config", str(configs / "example.yaml"))
    assert firstlight(*options, "render", "--output", tmp_path / "out").code == 0
    return options


def test_a_kubeconfig_names_the_endpoint_and_holds_a_pair_that_fits(
    firstlight: Firstlight, rendered: tuple[str, str], tmp_path: Path
) -> None:
    done = firstlight(*rendered, "kubeconfig")

    assert (done.code, done.err) == (0, "")
    found = yaml.safe_load(done.out)
    assert found["current-context"] == "firstlight-rack1"
    assert found["clusters"][0]["cluster"]["server"] == "https://192.168.1.10:6443"
    user = found["users"][0]["user"]
    for name in ("certificate", "key"):
        (tmp_path / name).write_bytes(base64.b64decode(user[f"client-{name}-data"]))
    ssl.create_default_context().load_cert_chain(tmp_path / "certificate", tmp_path / "key")


def test_before_the_first_render_it_says_what_to_do_and_writes_nothing(
    firstlight: Firstlight, configs: Path, deploy: Path
) -> None:
    done = firstlight("--config", configs / "example.yaml", "kubeconfig")

    assert done.code == 2
    assert "rack1 has no certificates yet; `up` or `render` makes them" in done.err
    assert not deploy.exists()


def test_merging_keeps_what_others_wrote_and_a_copy(
    firstlight: Firstlight, rendered: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "kube" / "config"
    mine.parent.mkdir()
    old = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "other", "cluster": {"server": "https://o"}}],
    }
    mine.write_text(yaml.safe_dump(old))
    monkeypatch.setenv("KUBECONFIG", f"{mine}:/nowhere")

    first = firstlight(*rendered, "kubeconfig", "--merge")
    second = firstlight(*rendered, "kubeconfig", "--merge")

    assert (first.code, second.code, first.out) == (0, 0, "")
    found = yaml.safe_load(mine.read_text())
    assert [each["name"] for each in found["clusters"]] == ["other", "firstlight-rack1"]
    assert found["current-context"] == "firstlight-rack1"
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600
    assert "nothing changed" in second.err
    assert old == yaml.safe_load(mine.with_name("config.before-firstlight").read_text())


def test_a_file_that_is_no_kubeconfig_is_left_alone(
    firstlight: Firstlight, rendered: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(mine))
    for text in ("- a list\n", "clusters: 3\n"):
        mine.write_text(text)

        done = firstlight(*rendered, "kubeconfig", "--merge")

        assert done.code == 2
        assert f"{mine}: " in done.err
        assert mine.read_text() == text
    assert [path.name for path in tmp_path.glob("config*")] == ["config"]


def test_the_break_glass_is_made_for_its_use_and_written_down(
    firstlight: Firstlight, rendered: tuple[str, str], deploy: Path
) -> None:
    log = deploy / "rack1" / "log" / "audit.log"
    assert not (deploy / "rack1" / "pki" / "super-admin.crt").exists()

    done = firstlight(*rendered, "kubeconfig", "--break-glass")

    assert done.code == 0
    assert yaml.safe_load(done.out)["users"][0]["name"] == "firstlight-rack1-super-admin"
    assert "this kubeconfig is root in rack1 until it expires" in done.err
    assert "system:masters" in json.loads(log.read_text())["what"]


def test_the_labs_own_door_is_named_only_while_the_lab_is_up(
    firstlight: Firstlight, configs: Path, tmp_path: Path, deploy: Path
) -> None:
    options = ("--config", configs / "lab.yaml")
    assert firstlight(*options, "render", "--output", tmp_path / "out").code == 0

    down = firstlight(*options, "kubeconfig")
    (deploy / "lab" / "lab" / "gateway.port").write_text("40001\n")
    up = firstlight(*options, "kubeconfig")

    assert down.code == 2
    assert "the lab of lab is not up; `up` or `lab up` starts it" in down.err
    assert yaml.safe_load(up.out)["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:40001"
