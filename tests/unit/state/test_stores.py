"""Which store a configuration names, and what is wrong with it."""

from pathlib import Path

import pytest

from bootstrap import stores
from bootstrap.errors import PreflightError
from bootstrap.model import Cluster
from bootstrap.model.appliance import StateStore
from bootstrap.state.etcd import EtcdStore
from bootstrap.state.sqlite import SqliteStore
from tests.unit.web.fakes import cluster


def etcd_cluster(**section: object) -> Cluster:
    given = cluster()
    etcd = StateStore.model_validate({"endpoints": ["https://10.77.0.9:2379"], **section})
    appliance = given.appliance.model_copy(update={"store": "etcd", "etcd": etcd})
    return given.model_copy(update={"appliance": appliance})


def test_the_file_is_the_default(tmp_path: Path) -> None:
    store = stores.open_home(cluster(), tmp_path)
    store.close()

    assert isinstance(store, SqliteStore)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


FILES = {"caFile": "tls/ca.crt", "certFile": "tls/me.crt", "keyFile": "tls/me.key"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base" / "tls").mkdir(parents=True)
    for path in FILES.values():
        (tmp_path / "base" / path).write_text(f"pem of {path}")
    return tmp_path / "base"


def test_etcd_is_opened_with_what_the_configuration_names_and_not_asked(tmp_path: Path, base: Path) -> None:
    given = etcd_cluster(**FILES)
    stores.bring_credentials(given, base, tmp_path)

    store = stores.open_store(given, tmp_path)

    assert isinstance(store, EtcdStore)
    brought = {path.name: path.read_text() for path in (tmp_path / "etcd-client").iterdir()}
    assert brought == {
        "ca.crt": "pem of tls/ca.crt",
        "client.crt": "pem of tls/me.crt",
        "client.key": "pem of tls/me.key",
    }
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "etcd-client").iterdir()} == {0o600}
    stores.bring_credentials(etcd_cluster(caFile="tls/ca.crt"), base, tmp_path)
    assert [path.name for path in (tmp_path / "etcd-client").iterdir()] == ["ca.crt"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path: Path, base: Path, name: str) -> None:
    (base / FILES[name]).unlink()

    with pytest.raises(PreflightError, match=rf"appliance\.etcd\.{name}: {base}/{FILES[name]}: No such file"):
        stores.bring_credentials(etcd_cluster(**FILES), base, tmp_path)
    assert not (tmp_path / "etcd-client").exists()
    with pytest.raises(PreflightError, match=r"etcd-client/ca\.crt: No such file"):
        stores.open_store(etcd_cluster(**FILES), tmp_path)


def test_a_configuration_without_the_section_is_told_what_to_write(tmp_path: Path) -> None:
    given = cluster()
    appliance = given.appliance.model_copy(update={"store": "etcd"})

    with pytest.raises(PreflightError, match=r"add appliance\.etcd: \{endpoints: "):
        stores.open_store(given.model_copy(update={"appliance": appliance}), tmp_path)
