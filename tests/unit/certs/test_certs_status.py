"""The status table: one row a certificate, whatever its state."""

from datetime import timedelta
from pathlib import Path

import pytest

from certs.secret import Secret
from certs.status import Condition, StatusRow, status
from tests.unit.certs import samples

DAY = timedelta(days=1)
FILES = [f"{row.name}.crt" for row in samples.ROWS if row.name not in samples.PAIRS]


def _of(folder: Path, file: str, *, days: int = 0) -> StatusRow:
    return next(row for row in status(folder, samples.ROWS, samples.NOW + days * DAY) if row.file == file)


def test_every_certificate_has_a_row_in_the_tables_order(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    found = status(tmp_path, samples.ROWS, samples.NOW)

    assert [row.file for row in found] == FILES
    assert {row.condition for row in found} == {Condition.OK}


def test_a_row_says_who_for_whom_and_how_long(tmp_path: Path) -> None:
    samples.ensure(tmp_path)

    assert _of(tmp_path, "admin.crt") == StatusRow(
        file="admin.crt",
        condition=Condition.OK,
        common_name="kubernetes-admin",
        organization="kubeadm:cluster-admins",
        sans=(),
        issuer="kubernetes-ca",
        expires=samples.NOW - timedelta(hours=1) + 365 * DAY,
        left=365 * DAY - timedelta(hours=1),
    )
    assert _of(tmp_path, "provisioning/server.crt").sans == ("10.77.0.1", "appliance.firstlight.internal")


@pytest.mark.parametrize(
    ("days", "condition"),
    [
        (-1, Condition.NOT_YET),
        (1, Condition.OK),
        (242, Condition.OK),
        (244, Condition.DUE),
        (364, Condition.DUE),
        (366, Condition.EXPIRED),
        (5 * 365, Condition.EXPIRED),
    ],
)
def test_time_shows(tmp_path: Path, days: int, condition: Condition) -> None:
    samples.ensure(tmp_path)
    row = _of(tmp_path, "apiserver.crt", days=days)

    assert row.condition is condition
    assert row.left is not None
    assert (row.left < timedelta(0)) == (condition is Condition.EXPIRED)


def test_a_folder_that_is_not_there_misses_everything(tmp_path: Path) -> None:
    found = status(tmp_path / "pki", samples.ROWS, samples.NOW)

    assert [row.file for row in found] == FILES
    assert {row.condition for row in found} == {Condition.MISSING}
    assert not (tmp_path / "pki").exists()


def test_damaged_and_forgotten_files_have_their_rows_too(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    (tmp_path / "etcd" / "server-m9.crt").write_bytes((tmp_path / "etcd" / "server-m1.crt").read_bytes())
    (tmp_path / "admin.crt").write_bytes(b"noise")
    (tmp_path / "scheduler.crt").unlink()
    found = {row.file: row for row in status(tmp_path, samples.ROWS, samples.NOW)}

    assert list(found) == [*FILES, "etcd/server-m9.crt"]
    assert found["etcd/server-m9.crt"].condition is Condition.UNUSED
    assert found["etcd/server-m9.crt"].common_name == "kube-etcd"
    assert found["admin.crt"] == StatusRow(file="admin.crt", condition=Condition.UNREADABLE)
    assert found["scheduler.crt"] == StatusRow(file="scheduler.crt", condition=Condition.MISSING)
    assert _of(tmp_path, "etcd/server-m9.crt", days=400).condition is Condition.EXPIRED


def test_it_needs_no_key_and_no_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certs.sealing.ROUNDS", 1000)
    samples.ensure(tmp_path, passphrase=Secret(b"x"))
    for path in tmp_path.rglob("*.key"):
        path.unlink()

    assert {row.condition for row in status(tmp_path, samples.ROWS, samples.NOW)} == {Condition.OK}


@pytest.mark.parametrize(
    ("days", "condition"),
    [(3000, Condition.OK), (3284, Condition.OK), (3285, Condition.DUE), (3650, Condition.EXPIRED)],
)
def test_an_authority_is_due_when_it_cannot_give_a_full_year_any_more(
    tmp_path: Path, days: int, condition: Condition
) -> None:
    samples.ensure(tmp_path)

    assert _of(tmp_path, "ca.crt", days=days).condition is condition
