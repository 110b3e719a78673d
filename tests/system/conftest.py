"""The images of the appliance's containers, built once for all modules that run them."""

from collections.abc import Iterator

import pytest

from tests.system.container_bench import Served, Store, served, store


@pytest.fixture(scope="session", name="container_store")
def fixture_container_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(scope="session", name="boxes")
def fixture_boxes(container_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An appliance whose images were built from an empty store."""
    with served(container_store, tmp_path_factory.mktemp("boxes")) as made:
        # Built where there is a network; the cable's namespace has none.
        done = made.site.run("serve", "--prepare")
        assert done.code == 0, done.err
        made.log.write_text(done.err)
        made.built = done.err
        yield made


@pytest.fixture(scope="module", name="bench")
def fixture_bench(boxes: Served) -> Iterator[Served]:
    """The appliance; it does not run, and a module leaves it so."""
    yield boxes
    if boxes.process is not None and boxes.process.poll() is None:
        boxes.stop()
    assert boxes.site.run("down").code == 0


@pytest.fixture(name="running")
def fixture_running(bench: Served) -> Served:
    """The appliance, running; started when it does not."""
    if bench.process is None or bench.process.poll() is not None:
        bench.start()
    return bench
