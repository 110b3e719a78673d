"""A backup of a work folder brings the same work folder back."""

import os
import tarfile
from datetime import timedelta
from pathlib import Path

import pytest

from bootstrap import stores
from bootstrap.backup.archive import read_archive
from bootstrap.backup.collect import Site, backup
from bootstrap.errors import BackupError, StateError, UsageError
from bootstrap.keys import ensure_keys
from bootstrap.records.enrolment import enrol
from bootstrap.records.ledger import Ledger
from bootstrap.state import Put
from bootstrap.state.sqlite import SqliteStore
from bootstrap.states import State
from certs.secret import Secret
from tests.contract.etcd_likeness import serving, store_at
from tests.unit.backup.conftest import CONFIG, LATER, NOW, Rack, claim, everything, record


def test_what_was_lost_is_back_with_its_modes(rack: Rack) -> None:
    before, records = rack.tree(), rack.records()
    rack.backup()
    rack.lose()

    done = rack.restore()

    assert len(before) > 40
    assert rack.tree() == before
    assert {name: each.claim for name, each in rack.records().items() if each.claim} == {
        name: each.claim for name, each in records.items()
    }
    assert done.aside is None
    assert done.members == (rack.cluster.machines[0].name,)
    assert not (rack.work / "restored-etcd.snapshot").exists()
    assert (rack.work / "config" / "1-example.yaml").read_bytes() == CONFIG.read_bytes()
    assert sorted(path.name for path in rack.place.deploy.iterdir()) == ["lost", rack.place.name]


def test_the_keys_that_come_back_are_in_order_and_still_sealed(rack: Rack) -> None:
    rack.backup()
    rack.lose()
    rack.restore()

    assert b"ENCRYPTED" in (rack.work / "pki" / "ca.key").read_bytes()
    kept = ensure_keys(rack.cluster, rack.work, NOW, Secret(b"correct horse"))
    assert kept.keyring.news == ()


def test_the_archive_is_its_owners_and_any_tar_reads_it(rack: Rack) -> None:
    manifest = rack.backup()

    assert rack.file.stat().st_mode & 0o777 == 0o600
    assert read_archive(rack.file) == manifest
    with tarfile.open(rack.file) as tar:
        names = [member.name for member in tar]
        assert all(member.isreg() for member in tar)
    assert names == ["manifest.json", *(member.path for member in manifest.members)]
    assert {"state/state.db", "pki/ca.key", "known_hosts/m1.pub", "config/1-example.yaml"} <= set(names)
    assert [path.name for path in rack.file.parent.iterdir() if path.is_file()] == ["backup.tar.gz"]
    assert list((rack.work / "run").glob("backup-*")) == []


def test_a_store_in_use_gives_one_moment_of_it(rack: Rack) -> None:
    store = SqliteStore(rack.work / "state/state.db")
    store.commit([Put(key="a", value=b"1"), Put(key="b", value=b"1")])
    rack.backup()  # while the store is open, with its last commits in the log
    store.commit([Put(key="a", value=b"2")])
    store.close()
    rack.lose()
    rack.restore()

    restored = SqliteStore(rack.work / "state/state.db")
    found = [entry.value for key in "ab" if (entry := restored.get(key))]
    restored.close()
    assert found == [b"1", b"1"]


def test_a_damaged_store_is_no_backup(rack: Rack) -> None:
    database = rack.work / "state/state.db"
    content = bytearray(database.read_bytes())
    content[4096:4196] = b"\xff" * 100
    database.write_bytes(content)

    with pytest.raises(StateError, match="cannot be copied"):
        rack.backup()
    assert not rack.file.exists()


def test_no_backup_is_written_over(rack: Rack) -> None:
    rack.file.write_bytes(b"of yesterday")

    with pytest.raises(UsageError, match="is there already, and no backup is written over"):
        rack.backup()
    assert rack.file.read_bytes() == b"of yesterday"


def test_what_is_no_file_in_the_folder_of_keys_is_told(rack: Rack) -> None:
    (rack.work / "pki" / "more.key").symlink_to("/etc/shadow")

    with pytest.raises(BackupError, match=r"more\.key: is no plain file"):
        rack.backup()


def test_what_a_killed_backup_left_goes_away_with_the_next(rack: Rack) -> None:
    left = rack.work / "run" / "backup-abc"
    left.mkdir()
    (left / "state.db").write_bytes(b"secret")

    rack.backup()
    assert not left.exists()


def test_without_etcd_answering_the_rest_is_saved_and_the_reason_is_in_it(rack: Rack) -> None:
    members = (rack.cluster.control_plane.hosts[0].name,)
    cluster = rack.cluster.model_copy(
        update={"etcd": rack.cluster.etcd.model_copy(update={"members": members})}
    )
    silent = ("sh", "-c", 'echo \'{"error": "etcd could not take a snapshot: nobody"}\'')
    site = Site(cluster=cluster, place=rack.place, configs=(), version="1", wrap=lambda _: silent)

    manifest = backup(site, rack.file, NOW)

    assert manifest.etcd_missing == "etcd could not take a snapshot: nobody"
    assert not manifest.has_snapshot
    assert read_archive(rack.file) == manifest


def test_what_is_in_use_is_refused_and_with_force_moved_aside_whole(rack: Rack) -> None:
    rack.backup()
    (rack.work / "lab").mkdir()
    (rack.work / "lab" / "disk").write_bytes(b"of the lab")
    (rack.work / "log" / "audit.log").write_bytes(b"who was root")
    before = everything(rack.work)

    with pytest.raises(UsageError, match="is there already; --force moves the whole folder aside"):
        rack.restore()
    assert everything(rack.work) == before

    done = rack.restore(is_forced=True)
    assert done.aside == rack.work.with_name(f"{rack.place.name}.before-restore-20261123T100000.000Z")
    assert everything(done.aside) == before
    assert (rack.work / "lab" / "disk").read_bytes() == b"of the lab"
    assert (rack.work / "log" / "audit.log").read_bytes() == b"who was root"


def test_after_a_restore_the_hosts_of_the_lab_start_as_their_folders_are_what_they_were(rack: Rack) -> None:
    rack.backup()
    folder = rack.work / "lab" / "m1" / "root" / "run"
    (folder / "dbus").mkdir(parents=True)
    (folder / "dbus").chmod(0o711)
    folder.chmod(0o755)
    os.utime(folder, ns=(1, 1))
    if os.geteuid() == 0:
        os.chown(folder, 4711, 4712)
    before = [(path.name, rights(path)) for path in sorted(rack.work.joinpath("lab").rglob("*"))]

    rack.restore(is_forced=True)

    assert [(path.name, rights(path)) for path in sorted(rack.work.joinpath("lab").rglob("*"))] == before


def rights(path: Path) -> tuple[int, ...]:
    """Return whose a file is, what they may do with it, and when it was changed."""
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns


@pytest.mark.parametrize("name", ["pod-subnets.json", "state/state.db", "known_hosts/m1.pub"])
def test_any_one_thing_of_value_counts_as_in_use(rack: Rack, name: str) -> None:
    rack.backup()
    rack.lose()
    (rack.work / name).parent.mkdir(parents=True)
    (rack.work / name).write_bytes(b"")

    with pytest.raises(UsageError, match="is there already"):
        rack.restore()


def test_restored_twice_the_epoch_goes_on_and_the_log_tells_of_it(rack: Rack) -> None:
    rack.backup()
    rack.restore(is_forced=True)
    rack.file.unlink()
    rack.backup()
    rack.restore(is_forced=True, now=LATER + timedelta(hours=1))

    store = SqliteStore(rack.work / "state/state.db")
    epoch = store.get("meta/epoch")
    told = [(each.what, each.decision) for each in Ledger(store, lambda: NOW).events_of("unknown")]
    store.close()
    assert epoch
    assert epoch.value == b"2"
    assert told == [("restored", "epoch 1"), ("restored", "epoch 2")]


def test_machines_unknown_to_the_backup_are_not_armed_by_their_pool(rack: Rack) -> None:
    pools = tuple(pool.model_copy(update={"arm": "auto"}) for pool in rack.cluster.pools)
    cluster = rack.cluster.model_copy(update={"pools": pools})
    rack.backup()
    rack.lose()
    rack.restore()
    before = rack.records()

    store = SqliteStore(rack.work / "state/state.db")
    enrol(cluster, Ledger(store, lambda: LATER), lambda: "new")
    store.close()

    assert len(before) == len(cluster.machines) == 2
    assert {each.arm for each in rack.records().values()}.isdisjoint({"new"})
    assert {each.state for each in rack.records().values()} == {State.READY, State.ACCEPTED}


def test_what_was_retired_since_stays_retired_if_the_old_store_is_there(rack: Rack) -> None:
    rack.backup()
    mac, name = rack.cluster.machines[0].mac, rack.cluster.machines[0].name
    rack.put(record(mac, State.RETIRED, name=name, reason="sold"))

    done = rack.restore(is_forced=True)

    assert rack.records()[name].state is State.RETIRED
    assert done.members == ()


def test_what_was_retired_since_can_be_told_when_the_old_store_is_lost(rack: Rack) -> None:
    name = rack.cluster.machines[0].name
    rack.backup()
    rack.lose()

    with pytest.raises(UsageError, match="--retired nobody: neither"):
        rack.restore(retired=("nobody",))
    done = rack.restore(retired=(name,))

    assert rack.records()[name].state is State.RETIRED
    assert rack.records()[name].claim is None
    assert done.members == ()


def test_a_damaged_old_store_is_told_and_kept(rack: Rack) -> None:
    rack.backup()
    database = rack.work / "state/state.db"
    database.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)

    done = rack.restore(is_forced=True)

    assert done.notes
    assert "what was retired since cannot be read" in done.notes[0]
    assert done.aside
    assert (done.aside / "state/state.db").read_bytes().endswith(b"\xff" * 5000)


def test_a_state_in_etcd_is_backed_up_and_what_was_retired_there_since_stays_out(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appliance = rack.cluster.appliance.model_copy(update={"store": "etcd"})
    rack.cluster = rack.cluster.model_copy(update={"appliance": appliance})
    one = record("52:54:00:bb:00:01", State.READY, name="b1", claim=claim("b1"))
    other = record("52:54:00:bb:00:02", State.READY, name="b2", claim=claim("b2"))
    with serving(tmp_path) as (_, urls):
        monkeypatch.setattr(stores, "open_shared", lambda *_, moves=False: store_at(urls, moves=moves))
        etcd = store_at(urls)
        etcd.commit([Put(key=f"machine/{each.mac}", value=each.to_bytes()) for each in (one, other)])
        rack.put(record("52:54:00:bb:00:09", State.READY, name="of-before"))
        rack.moves("left")
        rack.backup()
        retired = other.but(state=State.RETIRED, arm=None)
        etcd.commit([Put(key=f"machine/{other.mac}", value=retired.to_bytes())])
        etcd.close()

        done = rack.restore(is_forced=True)

    found = rack.records()
    assert {"b1", "b2"} <= set(found)
    assert "of-before" not in found
    assert (found["b1"].state, found["b2"].state) == (State.READY, State.RETIRED)
    assert any("`store migrate --to etcd --replace`" in note for note in done.notes)
