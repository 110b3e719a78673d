"""The command lines of both engines and compose.yaml say what the one table says."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap.containers import command, compose, serving
from bootstrap.containers.dialect import DIALECTS, EngineName
from bootstrap.containers.images import Image
from bootstrap.containers.table import CONTAINERS, KEYS, PXE, WEB, Container, Mount, Root
from bootstrap.model.appliance import Loader, Loaders
from tests.samples import cluster

ROOT = Path(__file__).parents[3]
ROOTS: dict[Root, Path] = {"work": Path("/d/rack1"), "cache": Path("/d/cache")}


def argv(engine: EngineName, row: Container, **changes: Any) -> tuple[str, ...]:
    this = command.Running(name="firstlight-rack1-ab12-x", image="localhost/x:1", roots=ROOTS)
    return command.run(DIALECTS[engine], row, replace(this, **changes), ("--check",))


PXE_ARGV = """
run --rm --pull=never --name=firstlight-rack1-ab12-x --label=firstlight.work=/d/rack1 --network=host --read-only
{own} --no-healthcheck --cap-drop=ALL --cap-add=KILL --cap-add=NET_ADMIN --cap-add=NET_BIND_SERVICE --cap-add=NET_RAW
--cap-add=SETGID --cap-add=SETUID --security-opt=no-new-privileges --security-opt=label=disable --pids-limit=4096
--log-driver=none --stop-timeout=8 --tmpfs=/run:rw,noexec,nosuid,nodev,size=16m
--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=16m --volume=/d/rack1/run/pxe/bundle:/work/bundle:ro
--volume=/d/rack1/run/pxe/pki:/work/pki:ro --volume=/d/rack1/run/pxe/run:/work/run:rw localhost/x:1 --check
"""


@pytest.mark.parametrize(("engine", "own"), [("podman", "--read-only-tmpfs=false"), ("docker", "")])
def test_pxe_is_run_with_its_row_and_nothing_else(engine: EngineName, own: str) -> None:
    assert argv(engine, PXE) == (engine, *PXE_ARGV.format(own=own).split())


@pytest.mark.parametrize("engine", DIALECTS)
def test_web_is_nobody_with_no_capability(engine: EngineName) -> None:
    words = argv(engine, WEB)

    assert "--user=65532:65532" in words
    assert "--cap-drop=ALL" in words
    assert not [word for word in words if word.startswith(("--cap-add", "--privileged"))]


def test_in_the_lab_podman_joins_its_namespace() -> None:
    words = argv("podman", PXE, namespace=Path("/run/netns/fl-lab"))

    assert "--network=ns:/run/netns/fl-lab" in words
    assert "--network=host" not in words
    assert DIALECTS["podman"].joins_namespaces
    assert not DIALECTS["docker"].joins_namespaces


def test_a_loader_of_the_configuration_is_one_more_file_to_read() -> None:
    words = argv("podman", PXE, files=((Path("/srv/own.efi"), "/srv/own.efi"),))

    assert "--volume=/srv/own.efi:/srv/own.efi:ro" in words


def test_a_loader_that_is_missing_keeps_no_container_from_starting(tmp_path: Path) -> None:
    """podman refuses to mount what is not there, and docker makes an empty folder in its place."""
    sums = {
        name: hashlib.sha256(name.encode()).hexdigest()
        for name in ("efi64", "bios", "http_arm64", "http_efi64")
    }
    there = tmp_path / "own.efi"
    there.write_bytes(b"MZ")
    stored = tmp_path / "cache" / "sha256" / sums["http_arm64"]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"MZ")
    url = "https://boot.example.net/ipxe.efi"
    loaders = Loaders(
        efi64=Loader(path=str(there), sha256=sums["efi64"]),
        bios=Loader(path=str(tmp_path / "gone.kpxe"), sha256=sums["bios"]),
        http_arm64=Loader(url=url, sha256=sums["http_arm64"]),
        http_efi64=Loader(url=url, sha256=sums["http_efi64"]),
    )
    made = cluster("lab")
    pxe = made.appliance.pxe.model_copy(update={"loader": loaders})
    made = made.model_copy(update={"appliance": made.appliance.model_copy(update={"pxe": pxe})})

    found = serving.loader_files(made, tmp_path / "cache")

    assert set(found) == {(there, str(there)), (stored, f"/cache/sha256/{sums['http_arm64']}")}
    assert not (tmp_path / "gone.kpxe").exists()


@pytest.mark.parametrize(
    ("engine", "own", "proxies"),
    [
        ("podman", ["--format=docker", "--pull=missing"], []),
        ("docker", ["--progress=plain"], ["--build-arg=http_proxy"]),
    ],
)
def test_builds_differ_in_little(engine: EngineName, own: list[str], proxies: list[str]) -> None:
    words = command.build(
        DIALECTS[engine],
        file=Path("/c/Dockerfile.pxe"),
        tag="localhost/firstlight-pxe:1",
        arguments={"BASE": "debian:trixie-slim"},
        secrets={"pip": Path("/t/pip")},
        proxies=("http_proxy",),
    )

    assert list(words) == [
        *(engine, "build", *own, "--network=host", "--file=/c/Dockerfile.pxe"),
        *("--tag=localhost/firstlight-pxe:1", "--build-arg=BASE=debian:trixie-slim", *proxies),
        *("--secret=id=pip,src=/t/pip", "/c"),
    ]


def test_compose_yaml_is_the_table() -> None:
    assert yaml.safe_load((ROOT / "compose.yaml").read_text()) == compose.document()


def test_compose_yaml_asks_for_nothing_that_its_settings_do_not_say() -> None:
    images = {name: Image(name=name, tag=f"localhost/{name}:1", is_given=True) for name in CONTAINERS}
    settings = dict(line.split("=", 1) for line in compose.settings(ROOTS, images).splitlines())

    text = (ROOT / "compose.yaml").read_text()
    for name, value in settings.items():
        text = text.replace(f"${{{name}:?use --env-file}}", value)
    assert "${" not in text
    services = yaml.safe_load(text)["services"]
    assert services["web"]["volumes"][0] == "/d/rack1/run/web/bundle:/work/bundle:ro"
    assert services["pxe"]["image"] == "localhost/pxe:1"


@pytest.mark.parametrize("row", CONTAINERS.values(), ids=lambda row: row.name)
def test_dockerfile_has_every_folder_that_the_row_mounts(row: Container) -> None:
    text = (ROOT / f"Dockerfile.{row.name}").read_text()

    for mount in row.mounts:
        top = "/cache" if mount.target.startswith("/cache/") else mount.target
        assert f" {top}" in text.partition("mkdir -p /work")[2] or f"mkdir -p {top}" in text, mount
    assert (f"USER {row.user}:{row.user}" in text) == (row.user is not None)


def test_no_mount_and_no_key_is_an_authority_s() -> None:
    everything: list[Mount] = [mount for row in CONTAINERS.values() for mount in row.mounts]

    assert not [mount for mount in everything if mount.path.split("/")[0] == "pki"]
    assert not [name for names in KEYS.values() for name in names if name.endswith("ca.key")]
    sources = [(mount.root, mount.path) for mount in everything]
    assert len(sources) == len(set(sources))


def test_only_the_engine_s_door_runs_podman_or_docker() -> None:
    words = ('"podman"', '"docker"')
    rooms = (path for room in ("bootstrap", "certs", "pxe", "web") for path in (ROOT / room).rglob("*.py"))
    named = {str(path.relative_to(ROOT)) for path in rooms if any(word in path.read_text() for word in words)}

    assert named == {
        "bootstrap/cli/run.py",  # the words of --engine
        "bootstrap/config/cross/appliance.py",  # a rule of the configuration
        "bootstrap/containers/dialect.py",
        "bootstrap/containers/serving.py",
        "bootstrap/engines.py",
        "bootstrap/model/appliance.py",
    }
