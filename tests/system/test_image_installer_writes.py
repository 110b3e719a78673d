"""The installer's download and its last writes: what lands on the disk, and what a cut leaves."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.installer_shell import MIB, RAW, SHELLS, SIZE, Sandbox, disk_image

pytestmark = pytest.mark.system


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path, "dash")


@pytest.fixture(params=SHELLS)
def any_box(tmp_path: Path, request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox(tmp_path, request.param)


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    return disk_image(tmp_path)


def dump(path: Path) -> dict[str, Any]:
    done = subprocess.run(["sfdisk", "--json", str(path)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)["partitiontable"]
    return found


LAND = "clear_disk; land_image <{image}; raw_size={raw}; make_table || exit 5\n"


def test_the_table_grows_with_the_disk_and_gets_new_identities(box: Sandbox, image: bytes) -> None:
    (box.folder / "image").write_bytes(image)
    done = box.sh(
        LAND.format(image=box.folder / "image", raw=RAW) + "commit; echo $root_start $root_sectors $root_uuid"
    )
    assert done.returncode == 0, done.stderr

    old, new = dump(box.folder / "image"), dump(box.disk)
    root = new["partitions"][2]
    assert [row["start"] for row in new["partitions"]] == [34, 2048, 10240]
    assert root["start"] + root["size"] > SIZE // 512 - 4096
    assert {row["uuid"] for row in old["partitions"]}.isdisjoint(row["uuid"] for row in new["partitions"])
    assert [row["name"] for row in new["partitions"]] == [row["name"] for row in old["partitions"]]
    assert done.stdout.split()[-3:] == ["10240", str(root["size"]), root["uuid"].lower()]
    assert (
        "No errors detected"
        in subprocess.run(
            ["sfdisk", "--verify", str(box.disk)], check=True, capture_output=True, text=True
        ).stdout
    )


def test_the_committed_disk_holds_the_image(any_box: Sandbox, image: bytes) -> None:
    (any_box.folder / "image").write_bytes(image)
    any_box.sh(LAND.format(image=any_box.folder / "image", raw=RAW) + "commit")

    content = any_box.disk.read_bytes()
    assert content[:440] == image[:440]
    assert content[34 * 512 : 2040 * 512] == image[34 * 512 : 2040 * 512]
    assert content[MIB : RAW - MIB] == image[MIB : RAW - MIB]
    assert b"state=installed" in content[2040 * 512 : 2041 * 512]


def bootable(disk: bytes) -> bool:
    """Say whether a BIOS would start it, or UEFI firmware would find a table."""
    return disk[510:512] == b"\x55\xaa" or disk[512:520] == b"EFI PART" or disk[-512:-504] == b"EFI PART"


# The installer's dd, which stops the world before its Nth call: a power cut between two writes.
CUT_DD = """\
#!/bin/sh
n=$(cat "$FL_FAKE/calls" 2>/dev/null || echo 0)
echo $((n + 1)) >"$FL_FAKE/calls"
[ "$n" -eq "$FL_CUT" ] && exec kill -9 "$PPID"
exec {dd} "$@"
"""


def test_no_cut_leaves_a_bootable_half(box: Sandbox, image: bytes) -> None:
    (box.folder / "image").write_bytes(image)
    box.tool("dd", CUT_DD.format(dd=shutil.which("dd")))
    script = LAND.format(image=box.folder / "image", raw=RAW) + "commit"
    seen: list[tuple[bool, str]] = []
    for cut in range(40):
        (box.fake / "calls").unlink(missing_ok=True)
        box.disk.write_bytes(bytes(SIZE))
        done = box.sh(script, FL_CUT=str(cut))
        disk = box.disk.read_bytes()
        whole = disk[MIB : RAW - MIB] == image[MIB : RAW - MIB]
        assert whole or not bootable(disk), f"a cut before write {cut} leaves a bootable half"
        state = disk[2040 * 512 : 2041 * 512].rstrip(b"\0").decode().strip().rpartition("state=")[2]
        seen.append((bootable(disk), state))
        if done.returncode == 0:
            break

    # Whatever was written, the next boot knows the disk as ours, from the first write on.
    assert seen[0] == (False, "")
    assert {state for _, state in seen[1:-1]} == {"installing"}
    assert seen[-1] == (True, "installed")
    assert len(seen) >= 9


# --- the download ----------------------------------------------------------------------------------------


class Source(http.server.ThreadingHTTPServer):
    """Serves one file by ranges, with faults."""

    daemon_threads = True
    content = b""
    ranges: list[str]
    faults: list[str]


class Ranges(http.server.BaseHTTPRequestHandler):
    server: Source
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Stay silent."""

    def do_GET(self) -> None:
        asked = self.headers["Range"].removeprefix("bytes=")
        first, last = (int(text) for text in asked.split("-"))
        self.server.ranges.append(asked)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault == "500":
            self.send_error(500)
            return
        body = self.server.content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        self.close_connection = True


@pytest.fixture
def source() -> Iterator[Source]:
    server = Source(("127.0.0.1", 0), Ranges)
    server.ranges, server.faults = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def download(box: Sandbox, source: Source, image: bytes, digest: str | None = None, **env: str) -> Any:
    noise = os.urandom(3 * MIB)
    raw = image[: 4 * MIB] + noise + image[7 * MIB :]
    packed = subprocess.run(["zstd", "--quiet", "-"], input=raw, check=True, capture_output=True).stdout
    source.content = packed
    (box.etc / "provisioning-ca.crt").write_text("")
    script = (
        "CHUNK=1000000\npause_before() { echo 0; }\n"
        f"image_url=http://127.0.0.1:{source.server_port}/x image_size={len(packed)} raw_size={len(raw)}\n"
        f"image_sha256={digest or hashlib.sha256(packed).hexdigest()}\nwrite_image"
    )
    done = box.sh(script, **env)
    return done, raw


def test_the_image_lands_behind_the_first_mib(any_box: Sandbox, source: Source, image: bytes) -> None:
    done, raw = download(any_box, source, image)

    assert done.returncode == 0, done.stderr
    disk = any_box.disk.read_bytes()
    assert disk[:MIB] == bytes(MIB)
    assert disk[MIB : len(raw)] == raw[MIB:]
    assert (any_box.run_folder / "head").read_bytes() == raw[:MIB]
    assert len(source.ranges) > 3


def test_lost_connections_cost_one_range_each(box: Sandbox, source: Source, image: bytes) -> None:
    source.faults = ["", "cut", "500", ""]
    done, raw = download(box, source, image)

    assert done.returncode == 0, done.stderr
    assert box.disk.read_bytes()[MIB : len(raw)] == raw[MIB:]
    assert source.ranges[1] == source.ranges[2] == source.ranges[3]
    assert source.ranges[0] != source.ranges[1]


def test_a_connection_that_is_refused_between_two_pieces_costs_nothing(
    box: Sandbox, source: Source, image: bytes
) -> None:
    """The piece before, which has the same size, is not taken for the one that did not come."""
    source.faults = ["", "500"]
    done, raw = download(box, source, image)

    assert done.returncode == 0, box.reports()
    assert box.disk.read_bytes()[MIB : len(raw)] == raw[MIB:]


def test_a_download_that_never_works_fails_the_attempt(box: Sandbox, source: Source, image: bytes) -> None:
    source.faults = ["", "", *["cut"] * 9]
    done, _ = download(box, source, image)

    assert done.returncode == 9
    assert "could not be downloaded" in box.reports()
    assert not bootable(box.disk.read_bytes())


def test_a_wrong_sum_fails_the_attempt(box: Sandbox, source: Source, image: bytes) -> None:
    done, _ = download(box, source, image, digest="0" * 64)

    assert done.returncode == 9
    assert "the image has sha256" in box.reports()
    assert not bootable(box.disk.read_bytes())


def test_a_disk_that_does_not_take_it_fails_the_attempt(box: Sandbox, source: Source, image: bytes) -> None:
    box.disk.unlink()
    box.disk.symlink_to("/dev/full")
    done, _ = download(box, source, image)

    assert done.returncode == 9
    assert "could not be written" in box.reports()
