"""A key store keeps what stands, and issues again only what the configuration or time changed."""

import dataclasses
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from certs.errors import ExpiredAuthority, UnknownCertificate
from certs.keyring import Did, Keyring
from certs.keystore import Keystore
from certs.pem import key_from
from certs.secret import Secret
from certs.wanted import Names, Use, Wanted, rows
from tests.unit.certs import samples

DAY = timedelta(days=1)
PROVISIONING = {"provisioning/server.crt", "provisioning/pxe.crt"}
ALL_LEAVES = {f"{row.name}.crt" for row in samples.LEAVES}


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _names(**changes: object) -> Names:
    return dataclasses.replace(samples.NAMES, **changes)  # type: ignore[arg-type]


def _with(name: str, **changes: object) -> tuple[Wanted, ...]:
    return tuple(
        dataclasses.replace(row, **changes) if row.name == name else row  # type: ignore[arg-type]
        for row in samples.ROWS
    )


def _news(keyring: Keyring) -> list[str]:
    return [str(change) for change in keyring.news]


def test_everything_is_made_once(tmp_path: Path) -> None:
    keyring = samples.ensure(tmp_path)

    assert _news(keyring) == [f"made {row.name}" for row in samples.ROWS]
    assert list(keyring.certificates) == [row.name for row in samples.ROWS if row.name not in samples.PAIRS]
    assert keyring.certificates["ca"] == (tmp_path / "ca.crt").read_bytes()
    assert keyring.public.public_keys == {
        name: (tmp_path / f"{name}.pub").read_bytes() for name in samples.PAIRS
    }
    assert keyring.keys["admin"].reveal() == (tmp_path / "admin.key").read_bytes()


def test_no_key_of_an_authority_leaves_the_store_but_that_for_kubelets(tmp_path: Path) -> None:
    keyring = samples.ensure(tmp_path)

    assert set(keyring.keys) == {*samples.PAIRS, *(row.name for row in samples.LEAVES), "kubelet-ca"}
    assert set(samples.CAS) - set(samples.KEPT_CAS) == {"kubelet-ca"}


def test_a_second_run_changes_no_byte_and_says_so(tmp_path: Path) -> None:
    first = samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = samples.ensure(tmp_path, now=samples.NOW + timedelta(days=30))

    assert samples.tree(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    assert second.news == ()
    assert {change.did for change in second.changes} == {Did.KEPT}
    assert second.public == first.public


@pytest.mark.usefixtures("open_umask")
def test_keys_are_for_their_owner_alone_under_any_umask(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "pki"
    samples.ensure(folder)

    modes = {path: path.stat().st_mode & 0o7777 for path in (folder.parent, *folder.parent.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.suffix == ".key"} == {0o600}
    assert {mode for path, mode in modes.items() if path.suffix in {".crt", ".pub"}} == {0o644}
    assert {path.suffix for path in modes if path.is_file()} == {".key", ".crt", ".pub"}


def test_a_key_that_others_could_read_is_closed_again(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    (tmp_path / "ca.key").chmod(0o640)
    (tmp_path / "sa.key").chmod(0o604)
    (tmp_path / "etcd").chmod(0o755)
    keyring = samples.ensure(tmp_path)

    assert samples.tree(tmp_path) == before
    assert _news(keyring) == [
        "tightened ca: other users could read its key",
        "tightened sa: other users could read its key",
    ]
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etcd").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("changes", "files", "reason"),
    [
        (
            {"api_dns": (*samples.NAMES.api_dns, "k8s.example.org")},
            {"apiserver.crt"},
            "re-issued apiserver: now with k8s.example.org",
        ),
        (
            {"api_ips": samples.NAMES.api_ips[:1]},
            {"apiserver.crt"},
            "re-issued apiserver: without 192.168.1.11",
        ),
        (
            {"service_ip": ip_address("10.9.0.1")},
            {"apiserver.crt"},
            "re-issued apiserver: now with 10.9.0.1; without 10.3.0.1",
        ),
        (
            {"appliance_ips": (ip_address("10.77.0.2"),)},
            {"provisioning/server.crt"},
            "re-issued provisioning/server: now with 10.77.0.2; without 10.77.0.1",
        ),
        (
            {"etcd_hosts": (("m1", ip_address("192.168.1.12")), samples.NAMES.etcd_hosts[1])},
            {"etcd/server-m1.crt", "etcd/peer-m1.crt"},
            "re-issued etcd/server-m1: now with 192.168.1.12; without 192.168.1.10",
        ),
        (
            {"etcd_hosts": (*samples.NAMES.etcd_hosts, ("m3", ip_address("192.168.1.12")))},
            {"etcd/server-m3.crt", "etcd/server-m3.key", "etcd/peer-m3.crt", "etcd/peer-m3.key"},
            "made etcd/server-m3",
        ),
        ({"etcd_hosts": samples.NAMES.etcd_hosts[:1]}, set(), None),
        ({"api_dns": tuple(reversed(samples.NAMES.api_dns))}, set(), None),
        ({"cluster": "rack2"}, set(), None),
    ],
)
def test_a_change_of_names_touches_only_the_certificates_that_hold_them(
    tmp_path: Path, changes: dict[str, object], files: set[str], reason: str | None
) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    keyring = samples.ensure(tmp_path, wanted=rows(_names(**changes)))

    assert samples.changed(before, samples.tree(tmp_path)) == files
    assert (reason in _news(keyring)) if reason else keyring.news == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"common_name": "root"}, "CN kubernetes-admin is now root"),
        ({"organization": "dev"}, "O kubeadm:cluster-admins is now dev"),
        ({"organization": None}, "O kubeadm:cluster-admins is now none"),
        ({"uses": frozenset({Use.CLIENT, Use.SERVER})}, "its usages or extensions differ from the table"),
        ({"sans": ("a.example",)}, "now with a.example"),
        ({"life": timedelta(days=90)}, "it lived longer than 90 days"),
        ({"issuer": "front-proxy-ca"}, "another authority had issued it"),
    ],
)
def test_a_change_of_a_row_issues_again_for_the_same_key(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    wanted = _with("admin", **changes)
    keyring = samples.ensure(tmp_path, wanted=wanted)

    assert samples.changed(before, samples.tree(tmp_path)) == {"admin.crt"}
    assert _news(keyring) == [f"re-issued admin: {reason}"]
    assert samples.ensure(tmp_path, wanted=wanted).news == ()


def test_a_certificate_of_an_older_profile_is_issued_again(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    key = key_from(Secret((tmp_path / "ca.key").read_bytes()), None, where="")
    old = samples.certificate(tmp_path, "admin")
    builder = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=old.public_key(),
        serial_number=7,
        not_valid_before=old.not_valid_before_utc,
        not_valid_after=old.not_valid_after_utc,
    )
    bare = builder.sign(key, old.signature_hash_algorithm)  # type: ignore[arg-type]
    (tmp_path / "admin.crt").write_bytes(bare.public_bytes(samples.PEM))

    assert _news(samples.ensure(tmp_path)) == [
        "re-issued admin: its usages or extensions differ from the table"
    ]


@pytest.mark.parametrize(
    ("days", "files"),
    [
        (0, set()),
        (241, set()),
        (242, PROVISIONING),  # 48 h of their year lay behind them at birth
        (244, ALL_LEAVES),
        (365, ALL_LEAVES),
        (5 * 365, ALL_LEAVES),
    ],
)
def test_leaves_are_issued_again_when_a_third_of_their_life_is_left(
    tmp_path: Path, days: int, files: set[str]
) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    later = samples.NOW + days * DAY
    samples.ensure(tmp_path, now=later)

    assert samples.changed(before, samples.tree(tmp_path)) == files
    assert samples.ensure(tmp_path, now=later).news == ()


def test_the_third_is_exact_to_the_second(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    old = samples.certificate(tmp_path, "admin")
    third = (old.not_valid_after_utc - old.not_valid_before_utc) / 3
    due = old.not_valid_after_utc - third

    assert samples.ensure(tmp_path, now=due - timedelta(seconds=1), wanted=_without_provisioning()).news == ()
    assert len(samples.ensure(tmp_path, now=due, wanted=_without_provisioning()).news) == len(
        samples.LEAVES
    ) - len(PROVISIONING)


def _without_provisioning() -> tuple[Wanted, ...]:
    return tuple(row for row in samples.ROWS if not row.name.startswith("provisioning/"))


def test_a_certificate_from_the_future_is_issued_again(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.authorities(tmp_path)
    samples.ensure(tmp_path, now=samples.NOW + 300 * DAY)  # the operator's clock was wrong for one run
    keyring = samples.ensure(tmp_path)

    assert {str(change) for change in keyring.news} >= {
        "re-issued admin: it was valid only from 2027-09-16 11:00 UTC"
    }
    assert samples.certificate(tmp_path, "admin").not_valid_before_utc <= samples.NOW
    assert samples.authorities(tmp_path) == before


def test_no_leaf_outlives_its_authority(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    end = samples.certificate(tmp_path, "ca").not_valid_after_utc
    later = end - 10 * DAY
    samples.ensure(tmp_path, now=later)

    assert samples.certificate(tmp_path, "apiserver").not_valid_after_utc == end
    # Nothing is gained by trying again and again near the end.
    assert samples.ensure(tmp_path, now=end - timedelta(hours=1), wanted=_without_provisioning()).news == ()


def test_an_expired_authority_is_kept_and_named(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)

    with pytest.raises(ExpiredAuthority, match=r"provisioning/ca\.crt: expired on 2036-11-15"):
        samples.ensure(tmp_path, now=samples.NOW + 3650 * DAY)
    assert samples.tree(tmp_path) == before


def test_a_clock_before_the_authority_is_named(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)

    with pytest.raises(ExpiredAuthority, match="this computer's clock says 2026-11-10 12:00; set the clock"):
        samples.ensure(tmp_path, now=samples.NOW - 10 * DAY)
    assert samples.tree(tmp_path) == before


def test_renew_issues_the_named_certificates_for_the_keys_they_have(tmp_path: Path) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    keyring = Keystore(tmp_path).renew(samples.ROWS, samples.NOW + DAY, names=["admin", "etcd/peer-m1"])

    assert samples.changed(before, samples.tree(tmp_path)) == {"admin.crt", "etcd/peer-m1.crt"}
    assert _news(keyring) == ["re-issued etcd/peer-m1: as asked", "re-issued admin: as asked"]
    assert keyring.certificates["admin"] == (tmp_path / "admin.crt").read_bytes()


@pytest.mark.parametrize("days", [1, 89, 366, 5 * 365])
def test_renew_of_all_works_also_when_everything_is_expired(tmp_path: Path, days: int) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)
    later = samples.NOW + days * DAY
    Keystore(tmp_path).renew(samples.ROWS, later)

    assert samples.changed(before, samples.tree(tmp_path)) == ALL_LEAVES
    for row in samples.LEAVES:
        found = samples.certificate(tmp_path, row.name)
        assert found.not_valid_before_utc < later < found.not_valid_after_utc


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("admn", "did you mean admin?"),
        ("ca", "no certificate that can be renewed"),
        ("sa", "no certificate that can be renewed"),
        ("qqqqqqqqqq", "there are: provisioning/server"),
    ],
)
def test_renew_of_anything_else_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    samples.ensure(tmp_path)
    before = samples.tree(tmp_path)

    with pytest.raises(UnknownCertificate, match=hint.replace("?", r"\?")):
        Keystore(tmp_path).renew(samples.ROWS, samples.NOW, names=["admin", name])
    assert samples.tree(tmp_path) == before


def test_preview_tells_the_same_and_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    store = Keystore(folder)
    first = store.preview(samples.ROWS, samples.NOW)

    assert not folder.exists()
    assert _news(first) == [f"made {row.name}" for row in samples.ROWS]
    made = samples.ensure(folder)
    assert store.preview(samples.ROWS, samples.NOW).public == made.public
    assert len(store.preview(samples.ROWS, samples.NOW + 300 * DAY).news) == len(samples.LEAVES)
    assert samples.tree(folder)["admin.crt"] == made.certificates["admin"]


def test_two_runs_at_once_agree(tmp_path: Path) -> None:
    found: list[Keyring] = []
    threads = [
        threading.Thread(target=lambda: found.append(samples.ensure(tmp_path / "pki"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert all(each.public == found[0].public for each in found)
    assert sorted(len(each.news) for each in found) == [0] * 7 + [len(samples.ROWS)]
