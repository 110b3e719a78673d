"""A parcel is the same for the same files, holds no CA's key, and lands on the node once."""

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bootstrap.containers.table import CONTAINERS, Name
from bootstrap.errors import UsageError
from bootstrap.handover import gathering, parcel, unpack
from bootstrap.handover.fence import Fence
from tests import samples
from tests.unit.handover.rack import ID, NOW, Rack

STANDING = Fence(id=ID, node="w1", at=NOW, stage="closed")


@pytest.fixture(name="parcels")
def fixture_parcels(rack: Rack) -> dict[tuple[str, str], parcel.Parcel]:
    return {(one.part, one.kind): one for one in gathering.gather(rack.goods(), STANDING)}


Parcels = dict[tuple[str, str], parcel.Parcel]


def names(one: parcel.Parcel) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(one.archive)) as tar:
        return set(tar.getnames())


def lay(rack: Rack, parcels: Parcels, part: Name, *, handover: str = ID) -> dict[str, int]:
    owners: dict[str, int] = {}

    def own(path: Path, owner: int) -> None:
        name = path.name.removeprefix(".").removesuffix(".fresh")
        owners[str(path.with_name(name).relative_to(rack.node))] = owner

    unpack.lay(
        part,
        rack.node,
        documents=parcels[part, "documents"].archive,
        state=lambda: parcels[part, "state"].archive,
        handover=handover,
        own=own,
    )
    return owners


def test_the_same_files_are_the_same_bytes(rack: Rack, parcels: Parcels) -> None:
    again = gathering.gather(rack.goods(), STANDING)

    assert [one.archive for one in again] == [one.archive for one in parcels.values()]


def test_each_part_gets_its_own_and_no_authority_s_key(rack: Rack, parcels: Parcels) -> None:
    assert names(parcels["pxe", "documents"]) == {
        *("run/pxe/bundle/SHA256SUMS", "run/pxe/bundle/appliance/cluster.json"),
        *("run/pxe/bundle/appliance/provisioning-ca.crt", "run/pxe/bundle/pxe/dnsmasq.conf"),
        *("run/pxe/pki/provisioning/pxe.crt", "run/pxe/pki/provisioning/pxe.key"),
    }
    web = names(parcels["web", "documents"])
    assert {path for path in web if path.endswith(".key")} == {
        f"run/web/pki/{name}.key" for name in ("claims", "gate", "status", "provisioning/server")
    }
    assert not any("hosts/" in path for path in web)
    assert names(parcels["web", "state"]) == {
        *("state/state.db", "run/web/records/accepted.json", "run/web/records/pod-subnets.json")
    }
    assert names(parcels["pxe", "state"]) == {"run/pxe/run/leases", "run/pxe/run/tftp-learned"}

    authorities = [*(rack.work / "pki").rglob("ca.key"), *(rack.work / "pki").rglob("*-ca.key")]
    assert len(authorities) >= 4
    for one in parcels.values():
        with tarfile.open(fileobj=io.BytesIO(one.archive)) as tar:
            contents = [file.read() for member in tar if (file := tar.extractfile(member))]
        assert not any(key.read_bytes() in content for key in authorities for content in contents)


def test_pieces_make_the_whole_and_fit_into_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    one = parcel.packed("web", "state", {"state/state.db": parcel.Entry(os.urandom(2_000_000))})
    secrets = one.secrets()

    assert [each["metadata"]["name"][-4:] for each in secrets] == ["-000", "-001", "-002"]
    pieces = [base64.b64decode(each["data"]["piece"]) for each in secrets]
    assert b"".join(pieces) == one.archive
    assert max(map(len, pieces)) < 1 << 20
    monkeypatch.setattr(parcel, "MOST_PIECES", 2)
    with pytest.raises(UsageError, match=r"the state of web take 1 MiB, and at most 1 MiB go through"):
        one.secrets()


def test_it_lands_with_the_owners_and_modes_of_a_container_s_folder(rack: Rack, parcels: Parcels) -> None:
    owners = lay(rack, parcels, "web")
    key = rack.node / "run/web/pki/provisioning/server.key"

    assert key.read_bytes() == (rack.work / "pki/provisioning/server.key").read_bytes()
    assert (key.stat().st_mode & 0o777, owners["run/web/pki/provisioning/server.key"]) == (0o400, 65532)
    assert owners["run/web/bundle/web/nginx.conf"] == 0
    assert owners["state"] == owners["state/state.db"] == owners["run/web/records"] == 65532
    assert rack.node.stat().st_mode & 0o777 == 0o700
    assert rack.machines(rack.node) == rack.machines()


@pytest.mark.parametrize("part", CONTAINERS)
def test_every_folder_that_a_part_mounts_is_there(rack: Rack, parcels: Parcels, part: Name) -> None:
    lay(rack, parcels, part)

    for mount in CONTAINERS[part].mounts:
        assert mount.root == "cache" or (rack.node / mount.path).is_dir(), mount


def test_a_second_start_leaves_the_state_and_brings_changed_documents(rack: Rack, parcels: Parcels) -> None:
    lay(rack, parcels, "web")
    (rack.node / "run/web/records/accepted.json").write_text("[]")
    (rack.node / "run/web/bundle/gone").write_text("of before")
    fresh = gathering.gather(rack.goods(**{"web/nginx.conf": b"daemon on;"}), STANDING)
    lay(rack, {(one.part, one.kind): one for one in fresh}, "web")

    assert (rack.node / "run/web/records/accepted.json").read_text() == "[]"
    assert (rack.node / "run/web/bundle/web/nginx.conf").read_bytes() == b"daemon on;"
    assert not (rack.node / "run/web/bundle/gone").exists()


def test_another_handover_s_state_takes_its_place_and_nothing_is_lost(rack: Rack, parcels: Parcels) -> None:
    lay(rack, parcels, "web", handover="a" * 12)
    (rack.node / "state/state.db").write_bytes(b"of before")
    lay(rack, parcels, "web", handover="b" * 12)

    assert rack.machines(rack.node) == rack.machines()
    assert (rack.node / "state/before-1/state.db").read_bytes() == b"of before"
    assert json.loads((rack.node / "state/handover.json").read_text()) == {"id": "b" * 12}
    assert (rack.node / "run/web/records/binaries.json").exists()


def test_a_start_that_was_cut_off_before_its_mark_begins_anew(rack: Rack, parcels: Parcels) -> None:
    lay(rack, parcels, "web")
    (rack.node / "state/handover.json").unlink()
    (rack.node / "state/state.db").write_bytes(b"half")
    lay(rack, parcels, "web")

    assert rack.machines(rack.node) == rack.machines()


@pytest.mark.parametrize("kind", ["damaged", "other", "no rights", "link", "pipe", "folder"])
def test_a_mark_that_cannot_be_read_lays_no_old_state_over_the_newer_one(
    rack: Rack, parcels: Parcels, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lay(rack, parcels, "web")
    (rack.node / "state/state.db").write_bytes(b"newer")
    mark = rack.node / "state/handover.json"
    content = mark.read_bytes()
    if kind == "no rights":
        monkeypatch.setattr(os, "open", denied)
    elif kind in ("damaged", "other"):
        mark.write_bytes(content[:-5] if kind == "damaged" else b"[]")
    else:
        mark.unlink()
        (rack.folder / "elsewhere").write_bytes(content)
    if kind == "link":
        mark.symlink_to(rack.folder / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(mark)
    elif kind == "folder":
        mark.mkdir()

    with pytest.raises(unpack.Damaged, match=r"handover\.json: cannot be read"):
        lay(rack, parcels, "web")
    assert (rack.node / "state/state.db").read_bytes() == b"newer"
    assert not list((rack.node / "state").glob("before-*"))


def denied(path: Path, *_: object) -> int:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize("part", CONTAINERS)
def test_a_node_whose_disk_was_replaced_gets_no_old_state_once_it_was_laid(
    rack: Rack, parcels: Parcels, part: Name, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        unpack.Damaged, match="was laid on this node once, and is not there: is its disk mounted"
    ):
        unpack.lay(
            part,
            rack.node,
            documents=parcels[part, "documents"].archive,
            state=lambda: unpack.first_state(tmp_path / "empty", parcels[part, "state"].sum, ID),
            handover=ID,
            own=lambda *_: None,
        )
    assert list(rack.node.iterdir()) == []


def test_the_program_itself_asks_for_no_state_that_is_there(rack: Rack, parcels: Parcels) -> None:
    lay(rack, parcels, "web")
    one = parcels["web", "documents"]
    folder = rack.folder / "parcels/documents"
    folder.mkdir(parents=True)
    for number, piece in enumerate(one.pieces):
        (folder / f"piece-{number:03}").write_bytes(piece)
    argv = [sys.executable, "-m", "bootstrap.handover.unpack", "web", "--handover", ID]
    argv += ["--documents", one.sum, "--state", parcels["web", "state"].sum]
    argv += ["--node", str(rack.node), "--parcels", str(folder.parent)]
    mark = rack.node / "state/handover.json"

    def unpacked() -> tuple[int, str]:
        done = subprocess.run(argv, cwd=samples.ROOT, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stderr

    if os.geteuid() == 0:
        assert unpacked() == (0, "")
    mark.unlink()
    code, said = unpacked()
    assert (code, said.startswith(f"unpack: the state of handover {ID} was laid on this node once")) == (
        1,
        True,
    )
    assert not mark.exists()


def test_what_is_not_what_was_sent_is_refused(parcels: Parcels, tmp_path: Path) -> None:
    one = parcels["web", "documents"]
    folder = tmp_path / "parcel"
    folder.mkdir()
    for number, piece in enumerate(one.pieces):
        (folder / f"piece-{number:03}").write_bytes(piece)
    assert unpack.read(folder, one.sum) == one.archive
    (folder / "piece-000").write_bytes(one.archive[:-1])
    with pytest.raises(unpack.Damaged, match="do not make what was sent"):
        unpack.read(folder, one.sum)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "a/../../outside"])
def test_a_name_that_leads_out_is_refused(rack: Rack, name: str) -> None:
    evil = parcel.packed("web", "documents", {name: parcel.Entry(b"x")})
    good = parcel.packed("web", "state", {})
    with pytest.raises(unpack.Damaged, match="is nothing that a parcel holds"):
        lay(rack, {("web", "documents"): evil, ("web", "state"): good}, "web")
    assert not (rack.folder / "outside").exists()
