"""No backup is made of a store that is not the state's home: brought back, it would be a state of the past."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import stores
from bootstrap.errors import BackupError
from bootstrap.state import MOVE, Put, Store
from bootstrap.states import State
from tests.contract.etcd_likeness import serving, store_at
from tests.unit.backup.conftest import Rack, move_mark, record


@pytest.fixture
def etcd(rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Have the configuration of `rack` name an etcd, which is empty."""
    appliance = rack.cluster.appliance.model_copy(update={"store": "etcd"})
    rack.cluster = rack.cluster.model_copy(update={"appliance": appliance})
    with serving(tmp_path) as (_, urls):
        monkeypatch.setattr(stores, "open_shared", lambda *_, moves=False: store_at(urls, moves=moves))
        store = store_at(urls, moves=True)
        yield store
        store.close()


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("left", "the state was moved to etcd: write appliance.store: etcd, or move it back with"),
        ("leaving", "a move to etcd was interrupted: run `store migrate --to etcd` again"),
        ("copy", "a move from etcd was interrupted: run `store migrate` again"),
    ],
)
def test_a_file_that_was_left_is_no_backup_of_the_state(rack: Rack, role: str, why: str) -> None:
    rack.moves(role)

    with pytest.raises(BackupError) as told:
        rack.backup()

    assert why in str(told.value)
    assert not rack.file.exists()
    assert list((rack.work / "run").glob("backup-*")) == []


def test_half_a_copy_in_etcd_is_no_backup_of_the_state(rack: Rack, etcd: Store) -> None:
    known = record("52:54:00:bb:00:01", State.READY, name="b1")
    etcd.commit(
        [
            Put(key=f"machine/{known.mac}", value=known.to_bytes()),
            Put(key=MOVE, value=move_mark("copy", "sqlite")),
        ]
    )
    rack.moves("leaving")

    with pytest.raises(BackupError, match="a move from sqlite was interrupted: run `store migrate` again"):
        rack.backup()

    assert not rack.file.exists()


@pytest.mark.usefixtures("etcd")
def test_an_empty_etcd_is_no_backup_of_a_state_that_is_still_in_the_file(rack: Rack) -> None:
    with pytest.raises(BackupError, match=r"state\.db has the state.*run `store migrate --to etcd`"):
        rack.backup()

    assert not rack.file.exists()
