"""The installer's functions on files in place of disks: what it chooses, what it spares, what a cut leaves."""

import hashlib
import http.server
import json
import os
import shutil
import struct
import subprocess
import textwrap
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

INSTALLER = Path(__file__).parents[2] / "configs" / "installer"
MIB = 1 << 20
SIZE = 64 * MIB
ARM = "0f6c3f0e-5d0c-4b57-9d1e-6a3a5e1c0001"
GIB = 1 << 30

# Stands in for lsblk: the disks of a JSON file, or the partitions of a disk from a text file beside it.
FAKE_LSBLK = """\
#!/bin/sh
for last; do :; done
case $* in
*--json*) cat "$FL_FAKE/lsblk.json" ;;
*MOUNTPOINT*) echo "disk disk"; cat "$FL_FAKE/users" 2>/dev/null ;;
*) echo "$last"; cat "$FL_FAKE/partitions" 2>/dev/null ;;
esac
exit 0
"""
# What the tests see of the end: no restart, the failure's text, and no network.
ENDS = """\
FL_FAILED_WAIT=0
restart() { exit 9; }
report() { printf '%s\\n' "$*" >>"$FL_RUN/reports"; }
progress() { printf 'progress %s\\n' "$*" >>"$FL_RUN/reports"; }
"""


class Sandbox:
    """One machine's files, and a shell that has the installer's functions."""

    def __init__(self, folder: Path, shell: str) -> None:
        self.folder = folder
        self.shell = shell
        self.etc, self.run_folder, self.fake = folder / "etc", folder / "run", folder / "fake"
        for made in (self.etc, self.run_folder, self.fake, folder / "bin", folder / "by-path"):
            made.mkdir()
        self.tool("lsblk", FAKE_LSBLK)
        self.disk = folder / "disk"
        with self.disk.open("wb") as disk:
            disk.truncate(SIZE)
        (folder / "cmdline").write_text(f"boot=firstlight firstlight.arm={ARM} console=ttyS0\n")
        self.settings({})

    def tool(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def settings(
        self, select: dict[str, Any], wipe: list[str] | None = None, server: str = "https://127.0.0.1:1"
    ) -> None:
        task = {"cluster": "c1", "machine": "w1", "pool": "p", "mac": "52:54:00:00:00:01", "server": server,
                "disk": {"select": select, "wipe": wipe or []}}  # fmt: skip
        (self.etc / "install.json").write_text(json.dumps(task))

    def disks(self, *disks: dict[str, Any]) -> None:
        (self.fake / "lsblk.json").write_text(json.dumps({"blockdevices": disks}))

    def sh(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `script` with the functions of the installer and the disk chosen."""
        text = f". {INSTALLER}/install\n{ENDS}\nload\ndisk={self.disk} disk_size={SIZE} image_sha256={'e' * 64}\n"
        return subprocess.run(
            [*self.shell.split(), "-c", text + textwrap.dedent(script)],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "FL_SOURCE_ONLY": "1",
                "FL_ETC": str(self.etc),
                "FL_RUN": str(self.run_folder),
                "FL_FAKE": str(self.fake),
                "FL_CMDLINE": str(self.folder / "cmdline"),
                "FL_BY_PATH": str(self.folder / "by-path"),
                "FL_TRIES": "3",
                "FL_PATIENCE": "3",
                "FL_LOOKS": "2",
                "FL_LOOK_PAUSE": "0",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def reports(self) -> str:
        path = self.run_folder / "reports"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path, "dash")


@pytest.fixture(params=["dash", "bash --posix"])
def any_box(tmp_path: Path, request: pytest.FixtureRequest) -> Sandbox:
    """Both shells that run it: Debian's in our initrd, and that of the CoreOS families."""
    return Sandbox(tmp_path, request.param)


def row(path: str, size: int = 500 * GIB, **more: Any) -> dict[str, Any]:
    base = {"path": path, "type": "disk", "size": size, "serial": None, "wwn": None, "model": None, "rota": False,
            "tran": None, "ro": False, "rm": False, "log-sec": 512}  # fmt: skip
    return base | more


RACK = (
    row("/dev/sda", 120 * GIB, serial="S-SSD  ", tran="sata", model="Boot SSD  "),
    row("/dev/sdb", 8000 * GIB, serial="S-HDD1", wwn="0x5000c500a", rota=True, tran="sas"),
    row("/dev/sdc", 8000 * GIB, serial="S-HDD1", wwn="0x5000c500a", rota=True, tran="sas"),
    row("/dev/sdd", 16 * GIB, serial="USB1", rm=True, tran="usb"),
    row("/dev/nvme0n1", 960 * GIB, serial="N1", wwn="eui.01", tran="nvme"),
    row("/dev/nvme0n2", 400 * GIB, serial="N1", wwn="eui.02", tran="nvme"),
    row("/dev/vda", 8 * GIB, serial="w1-root", rota=True, tran="virtio"),
    row("/dev/sr0", 1 * GIB, type="rom"),
    row("/dev/sde", 0, serial="EMPTY"),
    row("/dev/loop0", 1 * GIB, type="loop"),
    row("/dev/sdf", 100 * GIB, serial="RO", ro=True),
)

RULES = [
    ({"serial": "w1-root"}, ["/dev/vda"]),
    ({"serial": "S-SSD"}, ["/dev/sda"]),
    ({"serial": "N1"}, ["/dev/nvme0n1", "/dev/nvme0n2"]),
    ({"serial": "USB1"}, ["/dev/sdd"]),
    ({"serial": "RO"}, []),
    ({"serial": "nobody"}, []),
    ({"wwn": "0x5000c500a"}, ["/dev/sdb"]),
    ({"wwn": "eui.02"}, ["/dev/nvme0n2"]),
    ({"type": "nvme"}, ["/dev/nvme0n1", "/dev/nvme0n2"]),
    ({"type": "nvme", "minSize": 500 * GIB}, ["/dev/nvme0n1"]),
    ({"type": "nvme", "maxSize": 400 * GIB}, ["/dev/nvme0n2"]),
    ({"type": "ssd"}, ["/dev/sda"]),
    ({"type": "hdd"}, ["/dev/sdb"]),
    ({"type": "virtio"}, ["/dev/vda"]),
    ({"minSize": 8000 * GIB}, ["/dev/sdb"]),
    ({"maxSize": 8 * GIB}, ["/dev/vda"]),
    ({"maxSize": 1 * GIB}, []),
    ({"byPath": "pci-0000:00:04.0-ata-1"}, ["/dev/sda"]),
    ({"byPath": "/dev/disk/by-path/pci-0000:00:04.0-ata-1"}, ["/dev/sda"]),
    ({}, ["/dev/nvme0n1", "/dev/nvme0n2", "/dev/sda", "/dev/sdb", "/dev/vda"]),
]


@pytest.mark.parametrize(("rule", "expected"), RULES, ids=[json.dumps(rule) for rule, _ in RULES])
def test_the_rule_selects(box: Sandbox, rule: dict[str, Any], expected: list[str]) -> None:
    box.disks(*RACK)
    box.settings(rule)
    (box.folder / "by-path" / "pci-0000:00:04.0-ata-1").symlink_to("/dev/sda")
    # The links lead to devices that this computer may not have.
    done = box.sh(
        "readlink() { echo /dev/sda; }\ninventory && candidates && jq -r '.[].path' $FL_RUN/candidates.json"
    )

    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == expected


def test_disks_that_all_carry_one_wwn_are_not_one_disk(box: Sandbox) -> None:
    box.disks(*(row(f"/dev/nvme{n}n1", serial=f"N{n}", wwn="eui.00", tran="nvme") for n in range(2)))
    box.settings({"type": "nvme"})
    done = box.sh("inventory; facts; choose_disk; exit 0")

    assert done.returncode == 9
    assert "2 disks match the rule" in box.reports()


def test_a_disk_that_is_found_late_takes_part_in_the_choice(box: Sandbox) -> None:
    """The first look sees one that matches, a later one two: that is no choice."""
    box.disks(row(str(box.disk), SIZE, serial="A", tran="nvme"))
    box.settings({"type": "nvme"})
    late = json.dumps({"blockdevices": [row(f"/dev/nvme{n}n1", serial=f"N{n}", tran="nvme") for n in "01"]})
    done = box.sh(f"inventory; facts; sleep() {{ echo '{late}' >$FL_FAKE/lsblk.json; }}; choose_disk; exit 0")

    assert done.returncode == 9
    assert "2 disks match the rule" in box.reports()


def test_a_disk_that_is_found_late_is_waited_for(box: Sandbox) -> None:
    box.disks(row("/dev/vdz", serial="other"))
    box.settings({"serial": "late"})
    late = json.dumps({"blockdevices": [row(str(box.disk), SIZE, serial="late")]})
    done = box.sh(
        f"FL_LOOKS=4\ninventory; facts; sleep() {{ echo '{late}' >$FL_FAKE/lsblk.json; }}\n"
        "choose_disk; echo chosen $disk"
    )

    assert f"chosen {box.disk}" in done.stdout, box.reports()


def test_disks_that_come_and_go_are_no_choice(box: Sandbox) -> None:
    box.disks(row(str(box.disk), SIZE, serial="s1"))
    box.settings({"serial": "s1"})
    done = box.sh(
        "inventory; facts\n"
        """sleep() { sed -i 's/"size": /&1/' $FL_FAKE/lsblk.json; }\n"""
        "choose_disk; exit 0"
    )

    assert done.returncode == 9
    assert "the disks come and go" in box.reports()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"serial": "nobody"}, "no disk matches the rule"),
        ({"type": "nvme"}, "3 disks match the rule"),
        ({"serial": "4k"}, "logical sectors of 4096 bytes"),
    ],
)
def test_what_is_not_one_usable_disk_is_a_failure(box: Sandbox, rule: dict[str, Any], reason: str) -> None:
    box.disks(*RACK, row("/dev/nvme1n1", serial="4k", **{"log-sec": 4096}))
    box.settings(rule)
    done = box.sh("inventory; facts; choose_disk; exit 0")

    assert done.returncode == 9
    assert reason in box.reports()
    assert "/dev/nvme0n2  nvme" in done.stderr
    if "match" in reason:
        assert "nothing was touched; found: /dev/nvme0n1 nvme 983040 MiB serial N1, " in box.reports()


def test_the_inventory_is_the_facts_of_the_report(any_box: Sandbox) -> None:
    any_box.disks(*RACK)
    done = any_box.sh("inventory && facts")

    assert done.returncode == 0, done.stderr
    facts = json.loads((any_box.run_folder / "facts.json").read_text())
    assert facts["cpus"] >= 1
    assert facts["memory"] > MIB
    assert [disk["path"] for disk in facts["disks"]].count("/dev/sdc") == 0
    assert {disk["serial"] for disk in facts["disks"]} >= {"S-SSD", "N1", "w1-root"}


def put(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as disk:
        disk.seek(at)
        disk.write(content)


def lvm(path: Path) -> None:
    label = bytearray(512)
    label[:8] = b"LABELONE"
    struct.pack_into("<Q", label, 8, 1)
    struct.pack_into("<I", label, 20, 32)
    label[24:32] = b"LVM2 001"
    label[32:64] = b"a" * 32
    crc = 0xF597A6CF
    crc = zlib.crc32(bytes(label[20:]), crc ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    struct.pack_into("<I", label, 16, crc)
    put(path, 512, bytes(label))


def zfs(path: Path) -> None:
    for label in (0, 256 * 1024):
        for slot in range(128):
            put(path, label + 128 * 1024 + slot * 1024, struct.pack("<QQQ", 0x00BAB10C, 5000, slot))


def md(path: Path) -> None:
    block = bytearray(1024)
    struct.pack_into("<IIII", block, 0, 0xA92B4EFC, 1, 0, 0)
    struct.pack_into("<Q", block, 144, 8)
    total = sum(struct.unpack("<64I", bytes(block[:256])))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    put(path, 4096, bytes(block))


def tool(*argv: str) -> Any:
    def make(path: Path) -> None:
        subprocess.run([*argv, str(path)], check=True, capture_output=True)

    return make


def table(path: Path) -> None:
    subprocess.run(
        ["sfdisk", str(path)], input="label: gpt\n,8M\n", text=True, check=True, capture_output=True
    )


FOREIGN = {
    "LVM2_member": lvm,
    "zfs_member": zfs,
    "linux_raid_member": md,
    "crypto_LUKS": lambda path: put(path, 0, b"LUKS\xba\xbe\x00\x01"),
    "ceph_bluestore": lambda path: put(path, 0, b"bluestore block device\n" + bytes(40)),
    "ext4": tool("mke2fs", "-q", "-F", "-t", "ext4"),
    "vfat": tool("mkfs.vfat", "-F", "32"),
    "swap": tool("mkswap"),
    "gpt": table,
}


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_foreign_contents_are_spared(box: Sandbox, kind: str) -> None:
    FOREIGN[kind](box.disk)
    before = box.disk.read_bytes()
    box.disks(row("/dev/vda", serial="s1"))
    done = box.sh("inventory; facts; jq '.[0]' $FL_RUN/disks.json >$FL_RUN/disk.json; check_contents; exit 0")

    assert done.returncode == 9, done.stderr
    assert "not ours" in box.reports()
    assert kind in box.reports()
    assert box.disk.read_bytes() == before


@pytest.mark.parametrize("tool", ["wipefs", "lsblk", "dd"])
def test_a_disk_that_cannot_be_looked_at_is_not_taken_for_empty(box: Sandbox, tool: str) -> None:
    box.disks(row("/dev/vda", serial="s1"))
    assert box.sh("inventory; facts").returncode == 0
    box.tool(tool, "#!/bin/sh\necho 'Input/output error' >&2\nexit 1\n")
    done = box.sh("check_contents; exit 0")

    assert done.returncode == 9
    assert "cannot be read, so nobody knows what is on it" in box.reports()


@pytest.mark.parametrize("user", ["md127 raid1", "sda1 part /media"])
def test_a_disk_that_the_live_system_uses_is_refused_also_on_the_wipe_list(box: Sandbox, user: str) -> None:
    box.disks(row("/dev/vda", serial="s1"))
    box.settings({}, wipe=["s1"])
    (box.fake / "users").write_text(f"sda1 part\n{user}\n")
    done = box.sh("inventory; facts; jq '.[0]' $FL_RUN/disks.json >$FL_RUN/disk.json; check_contents; exit 0")

    assert done.returncode == 9
    assert f"is in use ({user.split(maxsplit=1)[0]})" in box.reports()


def test_a_disk_that_is_gone_is_not_made_anew_as_a_file(box: Sandbox, image: bytes) -> None:
    (box.run_folder / "head").write_bytes(image[:MIB])
    box.disk.unlink()
    done = box.sh("clear_disk && exit 1; land_image </dev/null && exit 1; commit && exit 1; exit 0")

    assert done.returncode == 0, done.stderr
    assert not box.disk.exists()


def test_an_empty_disk_is_free(any_box: Sandbox) -> None:
    done = any_box.sh("check_contents")

    assert (done.returncode, any_box.reports()) == (0, "")


def test_a_partition_without_a_signature_is_foreign_too(box: Sandbox) -> None:
    part = box.folder / "part"
    part.write_bytes(bytes(MIB))
    (box.fake / "partitions").write_text(f"{part} \n")
    done = box.sh("foreign")

    assert done.stdout == f"{part}\tpartition\n"


@pytest.mark.parametrize(("serial", "status"), [("s1", 0), ("other", 9)])
def test_only_the_listed_serial_may_be_wiped(box: Sandbox, serial: str, status: int) -> None:
    FOREIGN["ext4"](box.disk)
    box.settings({}, wipe=[serial])
    box.disks(row("/dev/vda", serial="s1"))
    done = box.sh("inventory; facts; jq '.[0]' $FL_RUN/disks.json >$FL_RUN/disk.json; check_contents")

    assert done.returncode == status


def test_a_disk_without_serial_is_never_on_the_list(box: Sandbox) -> None:
    box.settings({}, wipe=["null", "None"])
    (box.run_folder / "disk.json").write_text('{"serial": null}')

    assert box.sh("may_wipe").returncode != 0


def test_the_marker_makes_a_table_ours_but_not_what_came_later(box: Sandbox) -> None:
    table(box.disk)
    assert "gpt" in box.sh("foreign").stdout

    assert box.sh("put_marker installed && foreign").stdout == ""
    lvm(box.disk)
    # LVM's label takes sector 1, so the table behind it is gone as well.
    assert "LVM2_member" in box.sh("foreign").stdout


def test_a_marker_of_another_cluster_makes_nothing_ours(box: Sandbox) -> None:
    table(box.disk)
    done = box.sh("cluster=c2; put_marker installed; cluster=c1; foreign")

    assert "gpt" in done.stdout


def test_the_marker_says_what_was_written(box: Sandbox) -> None:
    done = box.sh(
        "put_marker installing; marker; already_installed; echo $?; put_marker installed; already_installed; echo $?"
    )

    first, installing, installed = done.stdout.splitlines()
    assert first == f"firstlight-marker v1 cluster=c1 machine=w1 arm={ARM} image={'e' * 64} state=installing"
    assert (installing, installed) == ("1", "0")


@pytest.mark.parametrize("change", ["arm=other", "machine=w2", "cluster=c2"])
def test_only_this_arm_of_this_machine_is_already_installed(box: Sandbox, change: str) -> None:
    done = box.sh(f"put_marker installed; {change}; already_installed")

    assert done.returncode == 1


def test_random_bytes_are_no_marker(box: Sandbox) -> None:
    put(box.disk, MIB - 4096, os.urandom(512))

    assert box.sh("marker").stdout == ""


def test_clearing_marks_first_and_leaves_the_rest(any_box: Sandbox) -> None:
    put(any_box.disk, 0, os.urandom(MIB - 4096))
    put(any_box.disk, MIB, b"data")
    put(any_box.disk, SIZE - MIB, os.urandom(MIB))
    done = any_box.sh("clear_disk && marker_value state")

    content = any_box.disk.read_bytes()
    assert done.stdout == "installing\n"
    assert content[: MIB - 4096] == bytes(MIB - 4096)
    assert content[MIB : MIB + 4] == b"data"
    assert content[-MIB:] == bytes(MIB)


# --- the last writes -------------------------------------------------------------------------------------

IMAGE_TABLE = """\
label: gpt
unit: sectors
first-lba: 34
start=34, size=2006, type=21686148-6449-6E6F-744E-656564454649, name=firstlight-bios
start=2048, size=8192, type=U, name=firstlight-esp
start=10240, size=20480, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=firstlight-root
"""
RAW = 16 * MIB


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    path = tmp_path / "image"
    path.write_bytes(bytes(RAW))
    subprocess.run(["sfdisk", str(path)], input=IMAGE_TABLE, text=True, check=True, capture_output=True)
    put(path, 0, b"\xeb\x63BOOTCODE")
    put(path, 34 * 512, b"CORE")
    put(path, MIB, b"ESP")
    put(path, 5 * MIB, b"ROOT")
    return path.read_bytes()


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


# --- the rest --------------------------------------------------------------------------------------------


def test_a_clock_before_the_image_is_set(box: Sandbox) -> None:
    box.tool(
        "date",
        '#!/bin/sh\ncase $* in *-s*) echo "$*" >"$FL_FAKE/set" ;; +%s) echo 100 ;; *) echo 1970-01-01 ;; esac\n',
    )
    built = box.folder / "build-time"
    built.write_text("5000\n")
    box.sh("set_clock", FL_BUILD_TIME=str(built))
    assert (box.fake / "set").read_text() == "-u -s @5000\n"

    (box.fake / "set").unlink()
    built.write_text("99\n")
    box.sh("set_clock", FL_BUILD_TIME=str(built))
    assert not (box.fake / "set").exists()


@pytest.mark.parametrize(("more", "expected"), [("", {}), ("disk", {"disk": {"path": "/dev/vda"}})])
def test_an_event_says_who_and_what(any_box: Sandbox, more: str, expected: dict[str, Any]) -> None:
    (any_box.run_folder / "disk.json").write_text('{"path": "/dev/vda"}')
    done = any_box.sh(f"event failed install 7 'a \"quoted\" reason' {more}")

    assert done.returncode == 0, done.stderr
    assert json.loads((any_box.run_folder / "event.json").read_text()) == {
        "mac": "52:54:00:00:00:01",
        "arm": ARM,
        "kind": "failed",
        "stage": "install",
        "percent": 7,
        "message": 'a "quoted" reason',
        **expected,
    }


@pytest.mark.parametrize("missing", ["server", "cluster", "machine", "mac"])
def test_settings_that_lack_a_part_are_no_settings(box: Sandbox, missing: str) -> None:
    task = json.loads((box.etc / "install.json").read_text())
    del task[missing]
    (box.etc / "install.json").write_text(json.dumps(task))

    assert box.sh("load").returncode != 0


def test_a_boot_without_an_arm_installs_nothing(box: Sandbox) -> None:
    (box.folder / "cmdline").write_text("boot=firstlight firstlight.arms=1 xfirstlight.arm=2\n")

    assert box.sh("load").returncode != 0


def test_pauses_grow_to_a_bound(box: Sandbox) -> None:
    done = box.sh("for n in 1 2 3 4 5 9 30; do pause_before $n; done")

    pauses = [int(line) for line in done.stdout.split()]
    bases = (2, 4, 8, 16, 16, 16, 16)
    assert all(base <= pause <= base + 4 for pause, base in zip(pauses, bases, strict=True))


def test_units_are_set_by_the_presets_that_ignition_wrote(box: Sandbox) -> None:
    presets = box.run_folder / "root" / "etc" / "systemd" / "system-preset"
    presets.mkdir(parents=True)
    (presets / "20-ignition.preset").write_text("enable a.service\ndisable b.service\n")
    box.tool("chroot", '#!/bin/sh\nshift; echo "$*" >>"$FL_FAKE/chroot"\n')

    assert box.sh("enable_units").returncode == 0
    assert (box.fake / "chroot").read_text() == "systemctl preset a.service\nsystemctl preset b.service\n"

    box.tool("chroot", "#!/bin/sh\nexit 1\n")
    assert box.sh("enable_units").returncode != 0


# --- the report of the installed system ------------------------------------------------------------------


def run_report(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "FL_SOURCE_ONLY": "1", "FL_ETC": str(folder), "FL_SSH": str(folder),
           "FL_SYS": str(folder), "FL_TRIES": "2", "FL_PAUSE": "0"}  # fmt: skip
    argv = ["dash", "-c", f". {INSTALLER}/report\n{script}"]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    machine = {"mac": "52:54:00:00:00:01", "server": "https://127.0.0.1:1"}
    (tmp_path / "machine.json").write_text(json.dumps(machine))
    (tmp_path / "arm").write_text(f"{ARM}\n")
    (tmp_path / "provisioning-ca.crt").write_text("")
    (tmp_path / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAAkey root@w1\n")
    return tmp_path


@pytest.mark.parametrize(("efi", "firmware"), [(True, "uefi"), (False, "bios")])
def test_the_report_says_who_booted_and_how(node: Path, efi: bool, firmware: str) -> None:  # noqa: FBT001  # a table's column
    if efi:
        (node / "firmware" / "efi").mkdir(parents=True)
    done = run_report(node, "server=$(setting .server); body")

    body = json.loads(done.stdout)
    assert body["kind"] == "booted"
    assert (body["mac"], body["arm"], body["firmware"]) == ("52:54:00:00:00:01", ARM, firmware)
    assert body["sshHostKeys"] == ["ssh-ed25519 AAAAkey"]
    assert body["address"] == "127.0.0.1"


def test_a_report_that_nobody_takes_is_a_failure(node: Path) -> None:
    assert run_report(node, "main").returncode == 1


@pytest.mark.parametrize("missing", ["machine.json", "arm"])
def test_a_machine_that_was_not_installed_by_us_reports_nothing(node: Path, missing: str) -> None:
    (node / missing).unlink()
    done = run_report(node, "send() { echo sent; }\nmain")

    assert done.returncode == 1
    assert "sent" not in done.stdout
