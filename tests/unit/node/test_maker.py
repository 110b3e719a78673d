"""The agent in a maker's live system, to its end: what the maker's installer is called with, and what cuts leave."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.maker_images import PARTITIONS, RAW, RELEASES, SECTOR
from tests.unit.node.maker_rig import END_AT, MARKER_AT, SIZE, W1, Live, cluster_of, live

pytestmark = pytest.mark.system  # takes most of a minute

FAMILIES = sorted(RELEASES)
IMAGES = {"flatcar": "flatcar_production_image.bin.bz2", "fedora-coreos": "fedora-coreos-metal.x86_64.raw.xz"}


@dataclass
class Installed:
    """A machine that was installed, and what its console said."""

    machine: Live
    said: str


@pytest.fixture(scope="module", params=FAMILIES)
def installed(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Installed]:
    with live(tmp_path_factory.mktemp("live"), request.param) as made:
        yield Installed(made, made.boot())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path, "flatcar") as made:
        yield made


def test_a_machine_is_installed_by_its_maker_s_installer(installed: Installed) -> None:
    machine = installed.machine
    record = machine.rack.record()

    assert (record.state, record.attempts) == ("installed", 1), installed.said
    image, config = machine.folder / "run/image" / IMAGES[machine.family], machine.folder / "run/config.ign"
    expected = {
        "flatcar": ["-d", machine.disk, "-f", image, "-i", config],
        "fedora-coreos": [
            "install",
            "--insecure",
            "--image-file",
            image,
            "--ignition-file",
            config,
            machine.disk,
        ],
    }
    assert machine.argv() == [str(word) for word in expected[machine.family]]
    assert (machine.folder / "stdin").read_bytes() == b""
    assert not (machine.folder / "holds-the-disk").exists()
    assert machine.holds_the_image()
    assert f"w1 is installed on {machine.disk}" in installed.said
    assert machine.told() == ["complete"]


def test_the_other_shell_installs_it_too(machine: Live) -> None:
    machine.shell = "bash --posix"
    said = machine.boot()

    assert machine.rack.record().state == "installed", said
    assert machine.holds_the_image()


def test_the_marker_says_what_is_on_the_disk_and_the_second_one_is_gone(installed: Installed) -> None:
    machine, marker = installed.machine, installed.machine.marker()

    assert (marker["cluster"], marker["machine"], marker["state"]) == ("lab", "w1", "installed")
    assert marker["arm"] == machine.rack.record().arm
    assert [marker["image"]] == list(machine.artifacts.files)
    assert machine.marker(END_AT) == {}


def test_the_system_is_given_its_own_document_and_its_arm(installed: Installed) -> None:
    machine = installed.machine
    given = json.loads((machine.folder / "config").read_text())
    granted = json.loads(machine.rack.rendered().documents[W1, "installed"])
    arm = given["storage"]["files"].pop()

    assert given == granted
    assert (arm["path"], arm["mode"]) == ("/etc/firstlight/arm", 0o644)
    assert arm["contents"]["source"] == f"data:,{machine.rack.record().arm}%0A"


def test_while_the_maker_writes_the_disk_is_ours_and_empty(installed: Installed) -> None:
    head = (installed.machine.folder / "at-start").read_bytes()

    assert b"state=installing" in head[MARKER_AT : MARKER_AT + SECTOR]
    assert head[:MARKER_AT] == bytes(MARKER_AT)


def test_the_image_comes_whole_and_is_compared_before_the_disk_is_touched(machine: Live) -> None:
    sum_ = next(iter(machine.artifacts.files))
    machine.artifacts.files[sum_] = b"X" + machine.artifacts.files[sum_][1:]
    said = machine.boot()

    assert (
        f"the image has sha256 {hashlib.sha256(machine.artifacts.files[sum_]).hexdigest()}, not {sum_}"
        in said
    )
    assert "nothing was touched" in said
    assert machine.told() == ["attempt-failed"]
    assert not machine.was_called
    assert machine.disk.read_bytes() == bytes(SIZE)


def test_an_image_that_does_not_come_costs_an_attempt_and_no_byte(machine: Live) -> None:
    machine.artifacts.files.clear()
    said = machine.boot()

    assert "the image could not be downloaded" in said
    assert (machine.rack.record().state, machine.rack.record().attempts) == ("installing", 1)
    assert machine.disk.read_bytes() == bytes(SIZE)


def test_a_disk_that_is_not_ours_is_refused(machine: Live) -> None:
    with machine.disk.open("r+b") as disk:
        disk.write(b"LUKS\xba\xbe\x00\x01")
    before = machine.disk.read_bytes()
    said = machine.boot()

    assert "holds data that is not ours" in said
    assert machine.rack.record().state == "failed"
    assert not machine.was_called
    assert machine.disk.read_bytes() == before


def test_two_disks_that_match_are_no_choice(machine: Live) -> None:
    machine.disks({"path": "/dev/vdz"})
    said = machine.boot()

    assert "2 disks match the rule" in said
    assert not machine.was_called
    assert machine.disk.read_bytes() == bytes(SIZE)


def test_a_disk_on_the_wipe_list_is_erased(machine: Live) -> None:
    with machine.disk.open("r+b") as disk:
        disk.write(b"LUKS\xba\xbe\x00\x01")
    machine.rack.cluster = cluster_of("flatcar", wipe=["S-TARGET"])
    machine.rack.site.load()
    machine.boot()

    assert machine.rack.record().state == "installed"
    assert machine.holds_the_image()


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        ("proc/meminfo", "MiB of free memory until it is written"),
        ("bin/flatcar-install", "this live system has no flatcar-install"),
    ],
)
def test_what_the_live_system_lacks_is_said_before_the_disk_is_touched(
    machine: Live, spoiled: str, reason: str
) -> None:
    (machine.folder / spoiled).unlink()
    machine.file(
        "proc/meminfo",
        "MemAvailable: 1000 kB\n" if spoiled == "proc/meminfo" else "MemAvailable: 9999999 kB\n",
    )
    said = machine.boot()

    assert reason in said
    assert machine.rack.record().state == "failed"
    assert "nothing was touched" in machine.rack.record().reason
    assert machine.disk.read_bytes() == bytes(SIZE)


def test_an_installer_that_fails_leaves_a_disk_that_does_not_boot_and_the_next_try_works(
    machine: Live,
) -> None:
    machine.before(
        'case $image in *.bz2) bzip2 -cd "$image" ;; *) xz -cd "$image" ;; esac | head -c 9000000 |'
        ' dd of="$disk" bs=1M conv=nocreat,notrunc iflag=fullblock 2>/dev/null\n'
        "echo 'no space left on the moon' >&2\nexit 3\n"
    )
    said = machine.boot()
    record = machine.rack.record()

    assert f"NOT INSTALLED: {machine.program} failed (status 3): no space left on the moon" in said
    assert machine.told() == ["attempt-failed"]
    assert (record.state, record.attempts) == ("installing", 1)
    assert not machine.is_bootable()
    assert machine.marker()["state"] == machine.marker(END_AT)["state"] == "installing"
    (machine.folder / "before").unlink()
    said = machine.boot()
    assert (machine.rack.record().state, machine.rack.record().attempts) == ("installed", 2), said
    assert machine.holds_the_image()


def test_after_a_power_cut_the_half_written_disk_is_known_as_ours(machine: Live) -> None:
    """The agent dies with the maker's installer, which had the table and the first partitions on the disk."""
    machine.before(
        'case $image in *.bz2) bzip2 -cd "$image" ;; *) xz -cd "$image" ;; esac | head -c 9000000 |'
        ' dd of="$disk" bs=1M conv=nocreat,notrunc iflag=fullblock 2>/dev/null\n'
        "kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $(ps -o ppid= -p $$))) 2>/dev/null\nkill -9 $$\n"
    )
    machine.boot()
    assert machine.marker() == {}, "the maker's installer writes over the first marker"
    assert machine.marker(END_AT)["state"] == "installing"
    assert machine.rack.record().state == "installing"
    (machine.folder / "before").unlink()
    said = machine.boot()

    assert (machine.rack.record().state, machine.rack.record().attempts) == ("installed", 2), said
    assert machine.holds_the_image()


def test_an_installer_that_says_it_is_done_and_wrote_nothing_is_not_believed(machine: Live) -> None:
    machine.before("echo 'Success!'\nexit 0\n")
    said = machine.boot()

    assert f"{machine.program} left no partition table" in said
    assert machine.rack.record().state == "installing"
    assert not machine.is_bootable()


def test_an_installer_that_hangs_is_ended(machine: Live) -> None:
    machine.before("exec /bin/sleep 300\n")
    said = machine.boot(FL_MAKER_SECONDS="1")

    assert "flatcar-install failed (status 124)" in said


def test_a_machine_whose_last_report_was_lost_is_not_written_again(machine: Live) -> None:
    machine.tool(
        "curl",
        (machine.folder / "bin/curl")
        .read_text()
        .replace(
            "exec", 'case $* in *events*) grep -q complete "$FL_RUN/event.json" && exit 7 ;; esac\nexec'
        ),
    )
    machine.boot()
    assert machine.rack.record().state == "installing"
    machine.tool("curl", '#!/bin/sh\nexec /usr/bin/curl --connect-to "10.77.0.1:8443:127.0.0.1:$PORT" "$@"\n')
    machine.forget_call()
    said = machine.boot()

    assert "is already installed" in said
    assert machine.rack.record().state == "installed"
    assert not machine.was_called


def test_partitions_that_makers_make_are_ours_only_with_our_marker(machine: Live) -> None:
    """A machine that is armed again: its disk holds the maker's partitions, and our marker."""
    machine.boot()
    labels = [name for name, *_ in PARTITIONS["flatcar"]]
    parts = [(machine.file(f"part-{label}", bytes(1 << 20)), label) for label in labels]
    machine.file("partitions", "".join(f"{part} {label}\n" for part, label in parts))
    machine.rack.operator("POST", "/v1/machines/w1/arm", json={})
    machine.forget_call()
    said = machine.boot()
    assert machine.was_called, said
    assert machine.rack.record().state == "installed"

    with machine.disk.open("r+b") as disk:  # somebody else's marker, or none
        disk.seek(MARKER_AT)
        disk.write(bytes(SECTOR))
    machine.rack.operator("POST", "/v1/machines/w1/arm", json={})
    machine.forget_call()
    said = machine.boot()
    assert "holds data that is not ours" in said
    assert [str(part) for part, _ in parts if f"{part} partition" not in said] == []
    assert not machine.was_called


def hand_made(machine: Live, *partitions: tuple[str, int]) -> bytes:
    """Make partitions by name and first sector on the disk, with an ext4 in each, as a person does; return the disk."""
    lines = [f"start={first}, size=2048, name={name}" for name, first in partitions]
    subprocess.run(
        ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "always", machine.disk),
        input="\n".join(("label: gpt", *lines)), text=True, check=True,
    )  # fmt: skip
    parts = [(machine.file(f"hand-{name}", bytes(1 << 20)), name) for name, _ in partitions]
    for part, _ in parts:
        subprocess.run(("/sbin/mkfs.ext4", "-q", part), check=True)
    machine.file("partitions", "".join(f"{part} {name}\n" for part, name in parts))
    return machine.disk.read_bytes()


def test_a_system_made_by_hand_after_a_cut_install_is_not_erased_by_a_later_arm(machine: Live) -> None:
    """The second marker stays at the end of the disk: neither a person nor a maker's installer writes there."""
    machine.before(
        "kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $(ps -o ppid= -p $$))) 2>/dev/null\nkill -9 $$\n"
    )
    machine.boot()
    assert machine.marker(END_AT)["state"] == "installing"
    with machine.disk.open("r+b") as disk:
        disk.write(bytes(1 << 20))
    before = hand_made(machine, *((name, first) for name, _, first, _ in PARTITIONS["flatcar"]))
    machine.rack.operator("POST", "/v1/machines/w1/arm", json={})
    machine.forget_call()
    said = machine.boot()

    assert "holds data that is not ours" in said
    assert not machine.was_called
    assert machine.disk.read_bytes() == before


@pytest.mark.parametrize("partitions", [(("root", 4096),), (("ROOT", 40960), ("EFI-SYSTEM", 4096))])
def test_partitions_made_by_hand_behind_our_marker_are_not_erased(
    machine: Live, partitions: tuple[tuple[str, int], ...]
) -> None:
    """wipefs and a new partition table leave our marker where it is."""
    machine.boot()
    before = hand_made(machine, *partitions)
    assert machine.marker()["state"] == "installed"
    machine.rack.operator("POST", "/v1/machines/w1/arm", json={})
    machine.forget_call()
    said = machine.boot()

    assert "holds data that is not ours" in said
    assert [name for name, _ in partitions if f"hand-{name} partition" not in said] == []
    assert not machine.was_called
    assert machine.disk.read_bytes() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_program_that_would_take_another_disk_for_a_partition_is_not_run(
    tmp_path: Path, family: str
) -> None:
    with live(tmp_path, family) as machine:
        machine.disks({"path": f"{machine.disk}a", "serial": "OTHER"})
        said = machine.boot()

        assert ("would take" in said) == (family == "flatcar"), said
        assert machine.was_called == (family != "flatcar")
        assert (machine.disk.read_bytes() == bytes(SIZE)) == (family == "flatcar")


def test_a_program_that_no_signal_ends_is_left_behind(machine: Live) -> None:
    """It waits for a dead disk in the kernel, and timeout waits for it."""
    machine.tool(
        "timeout", '#!/bin/sh\ncase $1 in -k) exec /bin/sleep 15 ;; esac\nexec /usr/bin/timeout "$@"\n'
    )
    said = machine.boot(FL_MAKER_SECONDS="1", FL_STUCK_SECONDS="1")

    assert "does not end, and cannot be ended" in said
    assert machine.told() == ["attempt-failed"]
    assert machine.marker(END_AT)["state"] == "installing"


def test_a_volume_group_in_a_partition_with_a_maker_s_label_is_somebody_s(machine: Live) -> None:
    machine.boot()
    volume = bytearray(1 << 20)
    volume[:6] = b"LUKS\xba\xbe"
    volume[6:8] = b"\x00\x01"
    part = machine.file("p1", bytes(volume))
    machine.file("partitions", f"{part} ROOT\n")
    machine.rack.operator("POST", "/v1/machines/w1/arm", json={})
    machine.forget_call()
    said = machine.boot()

    assert "crypto_LUKS" in said
    assert not machine.was_called


def test_an_image_that_is_offered_without_tls_is_not_fetched(machine: Live) -> None:
    machine.tool(
        "jq",
        "#!/bin/sh\n"
        'case $* in *.image.url*) /usr/bin/jq "$@" | sed s/^https/http/ ;; *) exec /usr/bin/jq "$@" ;; esac\n',
    )
    said = machine.boot()

    assert "the image is offered without TLS" in said
    assert machine.artifacts.fetched == []
    assert machine.disk.read_bytes() == bytes(SIZE)


def test_the_disk_is_larger_than_the_image() -> None:
    assert SIZE > RAW + (2 << 20), "the second marker stands behind the image"
