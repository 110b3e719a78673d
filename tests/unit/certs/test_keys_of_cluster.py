"""From a configuration to its keys: names, lines for people, errors of this project."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bootstrap.config import load
from bootstrap.errors import FirstlightError, UsageError
from bootstrap.keys import (
    KeysError,
    ensure_keys,
    key_status,
    names_from,
    passphrase_from,
    preview_keys,
    renew_keys,
)
from bootstrap.model.cluster import Cluster
from bootstrap.model.kubernetes import ApiServer, Etcd
from certs.secret import Secret
from certs.status import Condition
from tests.unit.certs import samples

CONFIGS = Path(__file__).parents[3] / "configs"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def _cluster(name: str = "lab") -> Cluster:
    return load([CONFIGS / f"{name}.yaml"])


def _with_kubernetes(cluster: Cluster, **changes: object) -> Cluster:
    return cluster.model_copy(update={"kubernetes": cluster.kubernetes.model_copy(update=changes)})


def _sans(cluster: Cluster, work: Path, name: str) -> tuple[str, ...]:
    ensure_keys(cluster, work, NOW)
    return next(row.sans for row in key_status(cluster, work, NOW) if row.file == f"{name}.crt")


def test_the_labs_api_server_is_known_by_these_names(tmp_path: Path) -> None:
    assert _sans(_cluster(), tmp_path, "apiserver") == (
        "10.3.0.1",
        "10.77.0.10",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "m1",
    )


def test_the_labs_web_server_is_known_by_its_address(tmp_path: Path) -> None:
    assert _sans(_cluster(), tmp_path, "provisioning/server") == (
        "10.77.0.1",
        "appliance.firstlight.internal",
    )


def test_an_endpoint_by_name_and_extra_names_are_in(tmp_path: Path) -> None:
    api = ApiServer(cert_sans=("api.example.org", "203.0.113.9"))
    cluster = _with_kubernetes(
        _cluster("ha"), api_server=api, dns_domain="k8s.test", service_subnet=IPv4Network("10.96.0.0/12")
    )
    hosts = cluster.control_plane.hosts

    assert set(_sans(cluster, tmp_path, "apiserver")) == {
        "k8s.example.net",
        "api.example.org",
        "203.0.113.9",
        "10.96.0.1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.k8s.test",
        "localhost",
        "127.0.0.1",
        "::1",
        *(host.name for host in hosts),
        *(str(host.address) for host in hosts),
    }


def test_etcd_certificates_are_for_its_members_only() -> None:
    cluster = _cluster("ha")
    first = cluster.control_plane.hosts[0]
    alone = cluster.model_copy(update={"etcd": Etcd(members=(first.name,))})

    assert len(names_from(cluster).etcd_hosts) == 3
    assert names_from(alone).etcd_hosts == ((first.name, first.address),)


@pytest.mark.parametrize("name", ["lab", "example", "ha"])
def test_every_sample_gets_its_keys_once(tmp_path: Path, name: str) -> None:
    cluster = _cluster(name)
    first, second = ensure_keys(cluster, tmp_path, NOW), ensure_keys(cluster, tmp_path, NOW)

    count = len(first.lines)
    assert first.lines[0] == "made ca"
    assert all(line.startswith("made ") for line in first.lines)
    assert second.lines == (f"kept {count} keys and certificates",)
    assert second.keyring.public == first.keyring.public
    assert {row.condition for row in key_status(cluster, tmp_path, NOW)} == {Condition.OK}
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700


def test_lines_tell_what_changed_and_what_was_kept(tmp_path: Path) -> None:
    cluster = _cluster()
    count = len(ensure_keys(cluster, tmp_path, NOW).lines)
    wider = _with_kubernetes(cluster, api_server=ApiServer(cert_sans=("k8s.example.org",)))

    assert ensure_keys(wider, tmp_path, NOW).lines == (
        "re-issued apiserver: now with k8s.example.org",
        f"kept {count - 1} keys and certificates",
    )


def test_preview_writes_nothing(tmp_path: Path) -> None:
    previewed = preview_keys(_cluster(), tmp_path, NOW)

    assert not list(tmp_path.iterdir())
    assert previewed.lines == ensure_keys(_cluster(), tmp_path, NOW).lines


def test_renew_names_what_it_did(tmp_path: Path) -> None:
    count = len(ensure_keys(_cluster(), tmp_path, NOW).lines)
    later = NOW + timedelta(days=1)

    assert renew_keys(_cluster(), tmp_path, later, names=("admin",)).lines == (
        "re-issued admin: as asked",
        f"kept {count - 1} keys and certificates",
    )
    assert (
        len(renew_keys(_cluster(), tmp_path, later).lines) == count - 7 + 1
    )  # 5 authorities and 2 key pairs stay
    with pytest.raises(UsageError, match="did you mean scheduler"):
        renew_keys(_cluster(), tmp_path, later, names=("schedular",))


def test_the_glass_is_broken_only_by_name(tmp_path: Path) -> None:
    cluster = _cluster()
    ensure_keys(cluster, tmp_path, NOW)
    renew_keys(cluster, tmp_path, NOW)
    assert not (tmp_path / "pki" / "super-admin.crt").exists()

    made = renew_keys(cluster, tmp_path, NOW, names=("super-admin",))

    assert "made super-admin" in made.lines
    assert samples.certificate(tmp_path / "pki", "super-admin").subject.rfc4514_string() == (
        "CN=kubernetes-super-admin,O=system:masters"
    )
    row = key_status(cluster, tmp_path, NOW)[-1]
    assert (row.file, row.condition) == ("super-admin.crt", Condition.UNUSED)
    assert "super-admin" not in ensure_keys(cluster, tmp_path, NOW).keyring.keys


def test_trouble_is_told_as_this_projects_error(tmp_path: Path) -> None:
    ensure_keys(_cluster(), tmp_path, NOW)
    (tmp_path / "pki" / "etcd" / "ca.key").unlink()

    with pytest.raises(
        KeysError, match=r"etcd/ca\.crt: its key etcd/ca\.key is missing.*nothing was changed"
    ):
        ensure_keys(_cluster(), tmp_path, NOW)
    assert issubclass(KeysError, FirstlightError)
    assert KeysError.exit_code == 1


def test_a_wrong_passphrase_is_told_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certs.sealing.ROUNDS", 1000)
    ensure_keys(_cluster(), tmp_path, NOW, Secret(b"right"))

    with pytest.raises(KeysError, match="the passphrase is wrong") as caught:
        ensure_keys(_cluster(), tmp_path, NOW, Secret(b"canary"))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("content", [b"correct horse\n", b"correct horse", b"correct horse\r\nsecond line\n"])
def test_a_passphrase_is_the_first_line_of_its_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pass"
    file.touch(mode=0o600)
    file.write_bytes(content)

    assert passphrase_from(file) == Secret(b"correct horse")


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"x\n", 0o644, "chmod 600"),
        (b"\nx\n", 0o600, "its first line is empty"),
        (b"", 0o600, "its first line is empty"),
    ],
)
def test_an_unfit_passphrase_file_is_refused(tmp_path: Path, content: bytes, mode: int, said: str) -> None:
    file = tmp_path / "pass"
    file.write_bytes(content)
    file.chmod(mode)

    with pytest.raises(UsageError, match=said):
        passphrase_from(file)


def test_a_missing_passphrase_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass: cannot read the passphrase: No such file"):
        passphrase_from(tmp_path / "pass")
