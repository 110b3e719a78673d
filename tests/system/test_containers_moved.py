"""The pods of a handover, run from their manifests with the real images: they serve what was served here before."""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap.containers.table import CONTAINERS
from bootstrap.handover import fence
from tests.system.container_bench import CONFIG, READY_SECONDS, Served
from tests.system.pod_runner import PodRunner
from tests.system.pxe_segment import KNOWN_ADDRESS, KNOWN_MAC, SERVER, DhcpClient, Options, wait_for
from tests.system.spine import ROOT
from tests.system.test_containers_accept import PLANE

pytestmark = pytest.mark.system

UNLISTED = "52:54:00:99:00:07"
PINNED = "registry.example.net/firstlight-{}@sha256:" + "0123456789abcdef" * 4
BIOS: Options = [("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\0")]
Manifests = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", name="before")
def fixture_before(bench: Served) -> Iterator[tuple[str, list[bytes]]]:
    """What was served in containers here: the address of a machine that nobody listed, and documents."""
    config = Path(bench.site.configs[0])
    config.write_text(CONFIG + PLANE)
    bench.render()
    bench.start()
    client = DhcpClient(bench.cable)
    try:
        yield client.lease(UNLISTED, BIOS), answers(bench)
    finally:
        client.close()
        fence.remove(bench.work)
        shutil.rmtree(bench.work / "handover", ignore_errors=True)
        config.write_text(CONFIG)
        bench.render()


@pytest.fixture(scope="module", name="manifests")
def fixture_manifests(
    bench: Served, before: tuple[str, list[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Manifests:
    """What `handover --output` writes, by kind and name."""
    assert before[0]
    folder = tmp_path_factory.mktemp("manifests")
    pinned = folder / "pinned.yaml"
    images = ", ".join(f"{part}: '{PINNED.format(part)}'" for part in CONTAINERS)
    pinned.write_text(f"appliance:\n  containers: {{{images}}}\n")
    site = dataclasses.replace(bench.site, configs=(*bench.site.configs, str(pinned)))
    done = site.run("handover", "--to", "cluster", "--node", "w1", "--output", str(folder / "written"))
    assert done.code == 0, done.err
    found = [json.loads(path.read_text()) for path in sorted((folder / "written").iterdir())]
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


def answers(bench: Served) -> list[bytes]:
    """Return what the known machine is told, byte by byte."""
    script = bench.curl(f"http://{SERVER}:8080/ipxe?mac={KNOWN_MAC}&platform=pcbios")
    return [bench.curl(f"http://{SERVER}:8080/boot.ipxe"), script, bench.secure("/readyz")]


def asking() -> str:
    """Return how docs/handover.md asks the appliance over there, for a question that changes nothing."""
    (code,) = re.findall(r"python3 -c \\\n  '([^']+)'", (ROOT / "docs/handover.md").read_text())
    assert '.act("w1", "arm")' in code
    return str(code).replace('.act("w1", "arm")', '.machine("w1")')


def test_the_pods_serve_what_was_served_here_and_here_nothing_starts(
    bench: Served, before: tuple[str, list[bytes]], manifests: Manifests, tmp_path: Path
) -> None:
    assert bench.process is not None
    assert bench.process.wait(60) == 0
    assert bench.store.containers() == []
    assert bench.site.run("serve").code == 2
    runner = PodRunner(
        store=bench.store,
        namespace=bench.cable.server,
        node=tmp_path / "node",
        images={PINNED.format(part): bench.store.tag(part) for part in CONTAINERS},
        secrets={key.partition("/")[2]: each["data"] for key, each in manifests.items() if "Secret/" in key},
    )
    pods = {}
    try:
        for part in CONTAINERS:
            pods[part] = runner.start(manifests[f"Deployment/{part}"])
        for part, called in pods.items():
            deployment = manifests[f"Deployment/{part}"]
            assert wait_for(lambda: runner.probe(called, deployment), READY_SECONDS), bench.store.podman(  # noqa: B023
                "logs", called
            )
        assert wait_for(lambda: answers(bench) == before[1], READY_SECONDS), answers(bench)
        client = DhcpClient(bench.cable)
        try:
            assert client.lease(KNOWN_MAC, BIOS) == KNOWN_ADDRESS
            assert client.lease(UNLISTED, BIOS) == before[0]
        finally:
            client.close()
        assert bench.curl(f"tftp://{SERVER}/undionly.kpxe")
        assert "'name': 'w1'" in bench.store.podman("exec", pods["web"], "python3", "-c", asking())
    finally:
        for called in pods.values():
            bench.store.podman("stop", called, check=False)
            bench.store.podman("rm", "--force", called, check=False)
