"""Each container's folder holds copies of just what it reads, follows the originals, and goes with the appliance."""

import os
from pathlib import Path

import pytest

from bootstrap import accepted
from bootstrap.containers.homes import Homes
from bootstrap.containers.serving import bring_back
from bootstrap.containers.table import KEYS
from bootstrap.disk import write_bundle, write_file
from bootstrap.records.model import Accepted
from bootstrap.render.bundle import File
from bootstrap.workplace import Workplace

DOCUMENTS = {
    "appliance/cluster.json": b"{}",
    "appliance/provisioning-ca.crt": b"CA",
    "hosts/m1/etcd.service": b"host",
    "machines/w1/ignition.json": b"w1",
    "pxe/dnsmasq.conf": b"port=0",
    "web/boot.ipxe": b"#!ipxe",
    "web/nginx.conf": b"daemon off;",
}
SECRETS = ("ca.key", "provisioning/ca.key", "etcd/ca.key", "sa.key", "admin.key")


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Note who would own what: giving files away is root's alone."""
    noted: dict[str, int] = {}

    def chown(path: Path, owner: int, group: int, *, follow_symlinks: bool) -> None:
        assert not follow_symlinks
        assert owner == group
        noted[str(path)] = owner

    def fchown(descriptor: int, owner: int, group: int) -> None:
        assert owner == group
        noted[str(Path(f"/proc/self/fd/{descriptor}").readlink()).rpartition(".")[0]] = owner

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "fchown", fchown)
    return noted


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.delenv("FIRSTLIGHT_CACHE", raising=False)
    made = Workplace(tmp_path / "deploy", "rack1")
    made.make()
    render(made, DOCUMENTS)
    for name in {*KEYS["pxe"], *KEYS["web"], *SECRETS}:
        path = made.work / "pki" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    return made


def render(place: Workplace, documents: dict[str, bytes]) -> None:
    write_bundle(place.bundle, {path: File(content) for path, content in documents.items()})


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_each_sees_its_documents_and_keys_only(place: Workplace) -> None:
    Homes(place).make()

    pxe, web = place.work / "run/pxe", place.work / "run/web"
    assert files(pxe / "bundle") == {
        *("SHA256SUMS", "appliance/cluster.json", "appliance/provisioning-ca.crt", "pxe/dnsmasq.conf")
    }
    assert files(web / "bundle") == {
        *("SHA256SUMS", "appliance/cluster.json", "appliance/provisioning-ca.crt"),
        *("machines/w1/ignition.json", "web/boot.ipxe", "web/nginx.conf"),
    }
    assert files(pxe / "pki") == set(KEYS["pxe"])
    assert files(web / "pki") == set(KEYS["web"])


def test_keys_are_their_container_s_alone_and_documents_nobody_s_to_write(
    place: Workplace, owners: dict[str, int]
) -> None:
    Homes(place).make()

    key = place.work / "run/web/pki/provisioning/server.key"
    assert key.stat().st_mode & 0o777 == 0o400
    assert owners[str(key.with_name(".server.key"))] == 65532
    assert (place.work / "run/web/bundle/web/nginx.conf").stat().st_mode & 0o777 == 0o444
    assert owners[str(place.work / "run/web/bundle")] == 0
    assert owners[str(place.work / "state")] == 65532
    assert owners[str(place.work / "run/web/run")] == 65532
    assert owners[str(place.work / "run/pxe/run")] == 0


def test_what_changes_is_followed_and_what_goes_away_goes(place: Workplace) -> None:
    homes = Homes(place)
    homes.make()
    copy = place.work / "run/web/bundle"
    untouched = (copy / "web/nginx.conf").stat().st_ino
    folder = copy.stat().st_ino
    assert not homes.follow()

    changed = {**DOCUMENTS, "machines/w2/ignition.json": b"w2", "web/boot.ipxe": b"#!ipxe 2"}
    del changed["machines/w1/ignition.json"]
    render(place, changed)

    assert homes.follow()
    assert not homes.follow()
    assert (copy / "machines/w2/ignition.json").read_bytes() == b"w2"
    assert not (copy / "machines/w1/ignition.json").exists()
    assert (copy / "web/boot.ipxe").read_bytes() == b"#!ipxe 2"
    assert (copy / "SHA256SUMS").read_bytes() == (place.bundle / "SHA256SUMS").read_bytes()
    assert (copy / "web/nginx.conf").stat().st_ino == untouched
    assert copy.stat().st_ino == folder  # a container has it mounted


def test_a_renewed_key_is_followed_and_a_lost_one_is_lost(place: Workplace) -> None:
    homes = Homes(place)
    homes.make()
    write_file(place.work / "pki/provisioning/server.key", b"new\n", 0o600)
    (place.work / "pki/status.key").unlink()

    assert homes.follow()
    assert (place.work / "run/web/pki/provisioning/server.key").read_bytes() == b"new\n"
    assert not (place.work / "run/web/pki/status.key").exists()


def test_the_other_verbs_find_what_they_look_for(place: Workplace) -> None:
    homes = Homes(place)
    homes.make()
    (homes.run_folder("pxe") / "pxe.ready").write_text("6\n")
    assert (place.work / "run/pxe.ready").read_text() == "6\n"

    homes.forget("pxe")
    assert not (place.work / "run/pxe.ready").exists()


def test_leases_outlive_the_containers_and_nothing_else_does(place: Workplace) -> None:
    (place.work / "run/leases").write_text("1 52:54:00:00:00:01 10.0.0.5\n")
    homes = Homes(place)
    homes.make()
    assert not (place.work / "run/leases").exists()
    assert "10.0.0.5" in (homes.run_folder("pxe") / "leases").read_text()
    (homes.run_folder("pxe") / "leases").write_text("1 52:54:00:00:00:01 10.0.0.6\n")
    (homes.run_folder("pxe") / "tftp-learned").write_text("1 52:54:00:00:00:01\n")

    assert homes.remove()
    assert "10.0.0.6" in (place.work / "run/leases").read_text()
    assert {path.name for path in (place.work / "run").iterdir()} == {"leases", "tftp-learned"}
    assert not homes.remove()


def test_a_link_that_a_container_planted_for_its_leases_is_not_followed(
    place: Workplace, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    homes = Homes(place)
    homes.make()
    (homes.run_folder("pxe") / "leases").symlink_to(secret)

    homes.remove()
    assert not (place.work / "run/leases").exists()
    assert secret.read_text() == "secret"


def test_what_web_accepted_outlives_its_container(place: Workplace) -> None:
    homes = Homes(place)
    homes.make()
    entry = Accepted(mac="52:54:00:aa:00:07", name="w7", pool="workers")
    accepted.write(place.work / "run/web/records", [entry])

    assert homes.follow()
    assert accepted.read(place.work) == (entry,)
    accepted.write(place.work / "run/web/records", [entry.but(name="w8", mac="52:54:00:aa:00:08")])
    homes.remove()
    assert [one.name for one in accepted.read(place.work)] == ["w7", "w8"]


def test_its_records_are_web_s_own_folder_also_after_we_wrote_there(
    place: Workplace, owners: dict[str, int]
) -> None:
    (place.work / "binaries.json").write_text("{}")
    Homes(place).make()

    folder = place.work / "run/web/records"
    assert owners[str(folder)] == owners[str(folder / ".binaries.json")] == 65532
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "binaries.json").stat().st_mode & 0o777 == 0o600


def test_other_verbs_see_what_web_accepted_a_moment_ago(place: Workplace) -> None:
    Homes(place).make()
    entry = Accepted(mac="52:54:00:aa:00:07", name="w7", pool="workers")
    accepted.write(place.work / "run/web/records", [entry])
    bring_back(place)
    assert accepted.read(place.work) == ()  # no container was ever started

    (place.work / "run/engine").write_text("podman\n")
    bring_back(place)
    assert accepted.read(place.work) == (entry,)
