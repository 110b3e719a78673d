"""`store migrate`: whole, refused in one line, and gone on with after a kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import failpoints, stores
from bootstrap.config import load
from bootstrap.errors import StateError
from bootstrap.state import Put, Room, moving
from bootstrap.state.etcd import EtcdStore
from bootstrap.state.sqlite import SqliteStore
from tests.contract.etcd_likeness import Member, serving, store_at
from tests.unit.cli.conftest import Firstlight

ETCD = """
  store: etcd
  etcd: {endpoints: [https://192.168.1.10:2379], caFile: ca.crt, certFile: client.crt, keyFile: client.key}
"""


@pytest.fixture
def config(configs: Path, tmp_path: Path) -> Path:
    text = (configs / "example.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.strip().startswith("store:")]
    at = lines.index("appliance:") + 1
    for name in ("ca.crt", "client.crt", "client.key"):
        (tmp_path / name).write_text("pem")
    path = tmp_path / "config.yaml"
    path.write_text("\n".join([*lines[:at], ETCD.strip("\n"), *lines[at:]]) + "\n")
    return path


@pytest.fixture
def etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Member]:
    with serving(tmp_path) as (member, urls):

        def opened(cluster: object, work: object, *, moves: bool = False) -> EtcdStore:
            del cluster, work
            return store_at(urls, moves=moves, call_seconds=1.0)

        monkeypatch.setattr(stores, "open_shared", opened)
        yield member


@pytest.fixture
def database(deploy: Path) -> Path:
    path = deploy / "rack1" / stores.DATABASE
    path.parent.mkdir(parents=True)
    store = SqliteStore(path)
    store.commit([Put(key=f"machine/{number}", value=b"x") for number in range(7)])
    store.commit([Put(key=f"event/{number:012d}", value=b"x") for number in range(9)])
    store.close()
    return path


@pytest.mark.usefixtures("database")
def test_it_goes_there_and_back(firstlight: Firstlight, config: Path, etcd: Member) -> None:
    there = firstlight("--config", config, "--output", "json", "store", "migrate", "--to", "etcd")

    assert there.code == 0, there.err
    assert {name: there.json()[name] for name in ("store", "entries", "machines", "events", "written")} == {
        "store": "etcd", "entries": 16, "machines": 7, "events": 9, "written": 16,
    }  # fmt: skip
    assert len([key for key in etcd.entries if b"/state/machine/" in key]) == 7

    again = firstlight("--config", config, "store", "migrate", "--to", "etcd")
    back = firstlight("--config", config, "--output", "json", "store", "migrate", "--to", "sqlite")

    assert again.out.splitlines()[1].split()[:5] == ["etcd", "16", "7", "9", "0"]
    assert back.code == 0, back.err
    assert back.json()["sha256"] == there.json()["sha256"]
    assert "now write `store: sqlite`" in back.err


def test_an_etcd_that_is_away_is_one_line_and_changes_nothing(
    firstlight: Firstlight, config: Path, etcd: Member, database: Path
) -> None:
    before = database.read_bytes()
    etcd.fault.silent = True

    done = firstlight("--config", config, "store", "migrate", "--to", "etcd")

    assert done.code == 1
    assert "no answer within 1 s" in done.err
    assert "Traceback" not in done.err
    assert database.read_bytes() == before


@pytest.mark.usefixtures("etcd")
def test_nothing_to_move_is_said(firstlight: Firstlight, config: Path, deploy: Path) -> None:
    there = firstlight("--config", config, "store", "migrate", "--to", "etcd")
    back = firstlight("--config", config, "store", "migrate", "--to", "sqlite")

    assert (there.code, back.code) == (2, 2)
    assert "state.db is not there: there is nothing to move" in there.err
    assert "etcd holds no state of this cluster" in back.err
    assert not (deploy / "rack1" / stores.DATABASE).exists()


def test_a_configuration_without_etcd_is_told_what_to_write(firstlight: Firstlight, configs: Path) -> None:
    done = firstlight("--config", configs / "example.yaml", "store", "migrate", "--to", "etcd")

    assert done.code == 2
    assert "write store: etcd and etcd: {endpoints: [...]} in appliance" in done.err


def test_a_state_that_is_there_already_is_left_unless_it_is_to_be_replaced(
    firstlight: Firstlight, config: Path, etcd: Member, database: Path
) -> None:
    other = stores.open_shared(load([config]), database)
    other.commit([Put(key="machine/theirs", value=b"x")])
    other.close()

    refused = firstlight("--config", config, "store", "migrate", "--to", "etcd")
    forced = firstlight("--config", config, "store", "migrate", "--to", "etcd", "--replace")

    assert refused.code == 2
    assert "etcd holds a state of this cluster already (1 machines); nothing was changed" in refused.err
    assert forced.code == 0
    assert not [key for key in etcd.entries if key.endswith(b"theirs")]


def killed_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next move end at a place that bootstrap/failpoints.py names, with two entries in a commit."""

    def reached(at: str) -> None:
        if at == name:
            raise StateError(f"killed at {at}")

    monkeypatch.setattr(moving, "AT_ONCE", Room(writes=2, content=10_000))
    monkeypatch.setattr(failpoints, "reached", reached)


BEFORE_ITS_END = [name for name in failpoints.NAMES if name.startswith("move.") and name != "move.left.after"]


@pytest.mark.usefixtures("etcd")
@pytest.mark.parametrize("name", BEFORE_ITS_END)
def test_a_move_that_was_killed_is_taken_back_by_the_other_direction(
    firstlight: Firstlight, config: Path, database: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as once:
        killed_at(name, once)
        assert firstlight("--config", config, "store", "migrate", "--to", "etcd").code == 1

    back = firstlight("--config", config, "--output", "json", "store", "migrate", "--to", "sqlite")

    assert back.code == 0, back.err
    assert (back.json()["entries"], back.json()["written"]) == (16, 0)
    assert home(database) == ""
    again = firstlight("--config", config, "store", "migrate", "--to", "etcd")
    assert again.code == 0, again.err


def test_a_move_to_an_etcd_that_died_on_the_way_is_taken_back_without_it(
    firstlight: Firstlight, config: Path, etcd: Member, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as once:
        killed_at("move.copy.after", once)
        assert firstlight("--config", config, "store", "migrate", "--to", "etcd").code == 1
    etcd.fault.silent = True
    assert firstlight("--config", config, "store", "migrate", "--to", "sqlite").code == 1
    assert "a move to etcd was interrupted" in home(database)

    done = firstlight(
        "--config", config, "--output", "json", "store", "migrate", "--to", "sqlite", "--without-etcd"
    )

    assert done.code == 0, done.err
    assert (done.json()["machines"], done.json()["events"]) == (7, 9)
    assert "etcd was not asked: never serve from what is there" in done.err
    assert home(database) == ""
    etcd.fault.silent = False
    assert firstlight("--config", config, "store", "migrate", "--to", "etcd").code == 0


@pytest.mark.usefixtures("etcd")
def test_a_file_that_is_not_the_whole_state_is_never_taken_for_it_without_etcd(
    firstlight: Firstlight, config: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = ("--config", config, "store", "migrate", "--to", "sqlite", "--without-etcd")
    assert firstlight("--config", config, "store", "migrate", "--to", "etcd").code == 0
    left = firstlight(*alone)
    with monkeypatch.context() as once:
        killed_at("move.copy.after", once)
        stores.open_shared(load([config]), database).commit([Put(key="machine/later", value=b"")])
        assert firstlight("--config", config, "store", "migrate", "--to", "sqlite").code == 1
    copy = firstlight(*alone)

    assert (left.code, copy.code) == (2, 2)
    assert "sqlite was left: the state is in etcd as a whole" in left.err
    assert "sqlite holds an unfinished copy of the state in etcd" in copy.err
    assert home(database)


def test_without_etcd_nothing_is_made_up(
    firstlight: Firstlight, config: Path, configs: Path, deploy: Path
) -> None:
    for words in (("etcd", "--without-etcd"), ("sqlite", "--without-etcd", "--replace")):
        wrong = firstlight("--config", config, "store", "migrate", "--to", *words)
        assert (wrong.code, "--without-etcd goes with --to sqlite alone" in wrong.err) == (2, True)
    example = configs / "example.yaml"
    done = firstlight("--config", example, "store", "migrate", "--to", "sqlite", "--without-etcd")

    assert done.code == 2
    assert "state.db is not there" in done.err
    assert not (deploy / "rack1" / stores.DATABASE).exists()


def home(database: Path) -> str:
    """Return why nobody may serve from the file."""
    store = SqliteStore(database)
    try:
        return moving.why_not_home(store)
    finally:
        store.close()


@pytest.mark.usefixtures("etcd", "database")
def test_who_serves_is_told_where_the_state_is(firstlight: Firstlight, config: Path, deploy: Path) -> None:
    in_etcd = load([config])
    work = deploy / "rack1"
    with pytest.raises(StateError, match="run `store migrate --to etcd`"):
        stores.open_home(in_etcd, work)
    assert firstlight("--config", config, "store", "migrate", "--to", "etcd").code == 0

    stores.open_home(in_etcd, work).close()
    appliance = in_etcd.appliance.model_copy(update={"store": "sqlite", "etcd": None})
    with pytest.raises(StateError, match=r"the state was moved to etcd: write appliance\.store: etcd"):
        stores.open_home(in_etcd.model_copy(update={"appliance": appliance}), work)
