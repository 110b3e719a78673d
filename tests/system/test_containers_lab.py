"""The main job once more, with web and pxe as containers in the lab's network: from nothing to Ready nodes."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.container_bench import Store, store
from tests.system.spine import CACHE, LAB, Site, leftovers, show_logs
from tests.tier import Promise

# test_spine.py goes the whole way to Ready natively each time.
pytestmark = [pytest.mark.system, pytest.mark.promise, pytest.mark.soak]
BUILT = re.compile(r"(pxe|web): localhost/\S+, (\d+) MB, built in (\d+) s")


@pytest.fixture(scope="module", name="engine")
def fixture_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(name="site")
def fixture_site(engine: Store, tmp_path: Path) -> Iterator[Site]:
    site = Site(
        deploy=tmp_path / "deploy",
        cache=Path(os.environ.get("FIRSTLIGHT_CACHE") or CACHE),
        configs=(LAB, "tests/system/overlay-podman.yaml"),
        name="labbox",
        extra=dict(engine.environment),
    )
    yield site
    show_logs(site)
    site.run("down", timeout=120)


def test_one_command_takes_both_machines_to_ready_through_containers(
    site: Site, engine: Store, promise: Promise
) -> None:
    began = time.monotonic()
    first = site.run(timeout=2700)
    minutes = (time.monotonic() - began) / 60
    assert first.code == 0, first.err[-4000:]
    assert {name: machine["state"] for name, machine in site.machines().items()} == {
        "w1": "ready",
        "w2": "ready",
    }
    assert len(engine.containers()) == 2
    built = {part: (size, seconds) for part, size, seconds in BUILT.findall(first.err)}
    assert built.keys() == {"pxe", "web"}

    second = site.run()
    assert second.code == 0, second.err
    assert "nothing changed" in second.err

    assert site.run("down", timeout=120).code == 0
    assert engine.containers() == []
    assert leftovers(site) == []
    promise(
        promise="containers Ready",
        asked="from an empty engine store, one command takes a BIOS and a UEFI machine to Ready",
        done=f"{minutes:.0f} minutes, images built: "
        + ", ".join(f"{part} {size} MB in {seconds} s" for part, (size, seconds) in sorted(built.items())),
        found="2 of 2 Ready; a second run changed nothing; `down` left nothing",
    )
