"""The same questions to every store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from bootstrap.state import Store
from bootstrap.state.memory import MemoryStore
from bootstrap.state.sqlite import SqliteStore
from tests.contract.etcd_likeness import serving, store_at
from tests.store_questions import ACTS, PREFIXES, QUESTIONS, Acts, answer_of

Maker = Callable[[], Store]


@contextmanager
def memory(folder: Path) -> Iterator[Maker]:
    del folder
    yield MemoryStore


@contextmanager
def sqlite(folder: Path) -> Iterator[Maker]:
    numbers = count()
    yield lambda: SqliteStore(folder / f"{next(numbers)}.db")


@contextmanager
def etcd(folder: Path) -> Iterator[Maker]:
    numbers = count()
    with serving(folder) as (_, urls):
        yield lambda: store_at(urls, f"rack{next(numbers)}")


MAKERS = {"memory": memory, "sqlite": sqlite, "etcd": etcd}


@pytest.fixture(params=sorted(MAKERS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    with MAKERS[request.param](tmp_path) as maker:
        yield maker


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_every_store_does_what_all_do(make: Maker, question: Callable[[Store], None]) -> None:
    store = make()
    try:
        question(store)
    finally:
        store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS, prefix=PREFIXES)
def test_the_stores_agree(make: Maker, acts: Acts, prefix: str) -> None:
    store, model = make(), MemoryStore()
    try:
        assert answer_of(store, acts, prefix) == answer_of(model, acts, prefix)
    finally:
        store.close()
