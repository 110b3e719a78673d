"""Web in its container takes unknown machines into the cluster; and compose.yaml runs both containers by hand."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap import accepted, allotment, node_programs
from bootstrap.artifacts import import_file
from bootstrap.operator import Operator
from bootstrap.programs import NODE
from tests.system.container_bench import CONFIG, GONE_SECONDS, READY_SECONDS, Served
from tests.system.pxe_segment import SERVER, wait_for
from tests.system.spine import ROOT
from tests.system.web_bench import make_image

pytestmark = pytest.mark.system

BYHAND, BYITSELF, COMPOSED = "52:54:00:78:00:01", "52:54:00:78:00:02", "52:54:00:78:00:03"
GPU = {"address": "0000:41:00.0", "vendor": "10de", "device": "2330"}
MORE = """
  - name: gpu8
    os: {family: debian, release: "13"}
    disk: {select: {type: virtio}}
    match: {gpus: ">=8"}
    autoAccept: true
machines:"""
PLANE = """
controlPlane: {hosts: [{name: m1, address: 10.77.0.10}]}
etcd: {members: [m1]}
"""


@pytest.fixture(scope="module", name="rack")
def fixture_rack(bench: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The appliance in containers, of a cluster whose machines join: it gives out names and pod subnets."""
    config = Path(bench.site.configs[0])
    joins = CONFIG.replace("plugin: none", "plugin: bridge").replace("\nmachines:", MORE) + PLANE
    config.write_text(joins.replace('release: "13"', 'release: "13", kernel: cloud'))
    folder = tmp_path_factory.mktemp("programs")
    found = {}
    for name in NODE:
        (folder / name).write_text(f"program {name}\n")
        found[name] = import_file(bench.site.cache, folder / name)
    make_image(folder, bench.site.cache)
    bench.work.joinpath("binaries.json").unlink(missing_ok=True)
    node_programs.record(bench.work, found)
    bench.render()
    bench.start()
    yield bench
    if bench.process is not None and bench.process.poll() is None:
        bench.stop()
    config.write_text(CONFIG)
    (bench.work / "binaries.json").unlink()
    bench.render()


def tell(rack: Served, mac: str, number: int, **inventory: Any) -> dict[str, Any]:
    """Boot as a machine that nobody listed and say what is in it; return what it is to do."""
    assert rack.curl(f"http://{SERVER}:8080/ipxe?mac={mac}&platform=pcbios").startswith(b"#!ipxe")
    body = {"mac": mac, "image": image_of(rack), "address": f"10.77.0.{number}"}
    told = json.dumps({**body, "inventory": {"cpus": 4, "vendor": "Maker", **inventory}})
    return answered(rack, "--header", "Content-Type: application/json", "--data", told, path="/v1/discovery")


def next_of(rack: Served, mac: str) -> dict[str, Any]:
    return answered(rack, path=f"/v1/discovery/{mac.replace(':', '-')}?image={image_of(rack)}")


def answered(rack: Served, *words: str, path: str) -> dict[str, Any]:
    authority = rack.work / "pki" / "provisioning" / "ca.crt"
    found: dict[str, Any] = json.loads(
        rack.curl("--cacert", str(authority), *words, f"https://{SERVER}:8443{path}")
    )
    return found


def image_of(rack: Served) -> str:
    (manifest,) = (rack.site.cache / "images").glob("*.json")
    return str(json.loads(manifest.read_text())["initrd"]["sha256"])


def names(rack: Served) -> list[str]:
    return [one.name for one in accepted.read(rack.work)]


def test_an_operator_accepts_a_machine_and_the_other_verbs_know_it(rack: Served) -> None:
    assert tell(rack, BYHAND, 151)["next"] == "wait"
    done = rack.site.run("machine", "accept", BYHAND, "--pool", "workers", "--name", "w7")
    assert done.code == 0, done.err + rack.text()[-3000:]

    step = next_of(rack, BYHAND)
    assert step["next"] == "install", step
    assert step["task"]["machine"] == "w7"
    assert wait_for(lambda: names(rack) == ["w7"], GONE_SECONDS)
    assert wait_for(lambda: set(allotment.recorded(rack.work)) == {"w1", "w7"}, GONE_SECONDS)
    numbers = allotment.recorded(rack.work)
    assert len(set(numbers.values())) == len(numbers)
    rack.render()
    document = (rack.work / "bundle/machines/w7/node.json").read_text()
    assert allotment.recorded(rack.work) == numbers
    assert f"10.2.{numbers['w7']}." in document


def test_a_pool_accepts_by_itself(rack: Served) -> None:
    step = tell(rack, BYITSELF, 152, gpus=[GPU] * 8)
    assert step["next"] == "install", step
    assert step["task"]["machine"] == "m-525400780002"
    assert wait_for(lambda: "m-525400780002" in names(rack), GONE_SECONDS)


def test_they_are_known_after_an_end_and_a_new_start(rack: Served) -> None:
    numbers = allotment.recorded(rack.work)
    rack.stop()
    assert sorted(names(rack)) == ["m-525400780002", "w7"]

    rack.start()
    listed = {one["name"] for one in Operator(rack.work).machines() if one["state"] != "retired"}
    assert listed == {"m-525400780002", "w1", "w7"}
    assert allotment.recorded(rack.work) == numbers


def test_compose_brings_both_up_serves_and_takes_them_down(rack: Served) -> None:
    if rack.process is not None and rack.process.poll() is None:
        rack.stop()
    prepared = rack.site.run("serve", "--prepare")
    assert prepared.code == 0, prepared.err
    settings = prepared.out.strip()
    try:
        said = compose(rack, settings, "up", "--detach")
        assert wait_for(lambda: serves(rack), READY_SECONDS), said + compose(rack, settings, "logs")
        assert len(rack.store.containers()) == 2
        assert tell(rack, COMPOSED, 153)["next"] == "wait"
        done = rack.site.run("machine", "accept", COMPOSED, "--pool", "workers", "--name", "w8")
        assert done.code == 0, done.err
        # Nobody follows what web writes: the next verb that asks for the cluster takes it over.
        assert "machines/w8/" in rack.site.run("plan").out
        assert "w8" in names(rack)
    finally:
        compose(rack, settings, "down")
    assert rack.store.containers() == []
    assert rack.site.run("down").code == 0
    assert rack.is_clean()
    assert "w8" in names(rack)


def compose(rack: Served, settings: str, *words: str) -> str:
    """Run podman-compose on the server's network, as a person does; return what it says."""
    program = str(Path(sys.prefix) / "bin" / "podman-compose")
    argv = (program, "--env-file", settings, "--file", str(ROOT / "compose.yaml"), *words)
    done = subprocess.run(
        rack.inside(*argv),
        env=rack.site.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def serves(rack: Served) -> bool:
    ready = (rack.work / "run" / "pxe.ready").exists()
    return ready and rack.curl(f"http://{SERVER}:8080/readyz") == b"ok\n"
