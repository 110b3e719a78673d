"""`machine explain` names what stands in a machine's way: six seeded failures, with real firmware where it is cheap."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.explain_rack import BASE, NAMES, Appliance, appliance, mac_of
from tests.system.pxe_segment import SERVER, wait_for

pytestmark = pytest.mark.system

FIRMWARE_SECONDS = 240.0  # two UEFI machines and two BIOS ones start side by side, emulated
LOOP_SECONDS = 240.0
NO_DISK = (
    'no disk matches the rule {"type":"nvme"}; nothing was touched; '
    "found: /dev/vda virtio 8192 MiB serial \x1b[31mw6-root"
)


@pytest.fixture(scope="module", name="rack")
def fixture_rack(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Appliance]:
    """All failures are seeded at once, and the machines switched on together: they wait for nothing but time."""
    failed_before = request.session.testsfailed
    with appliance(tmp_path_factory.mktemp("explain")) as made:
        made.drop("w1", "udp", 69)
        made.drop("w1", "tcp", 8080)  # else its firmware would boot by HTTP
        made.drop("w2", "tcp", 8080)
        arm = made.netboot_by_packets("w6")
        made.netboot_by_packets("w5")
        made.curl("w5", f"{BASE}/v1/ignition/{mac_of('w5')}")  # the first: web fails at it
        made.curl("w6", "--fail", f"{BASE}/v1/ignition/{mac_of('w6')}")
        made.report("w6", arm=arm, kind="failed", message=NO_DISK)
        take_artifacts_away(made)
        for name, firmware in (("w1", "uefi"), ("w3", "uefi"), ("w2", "bios"), ("w4", "bios")):
            made.power_on(name, firmware)
        yield made
        record(made)
        if request.session.testsfailed > failed_before:
            sys.stderr.write(made.story())


def record(rack: Appliance) -> None:
    """Write what was seen of each machine into the folder that FIRSTLIGHT_RECORD names, for tests/unit/explain."""
    if folder := os.environ.get("FIRSTLIGHT_RECORD"):
        for name in NAMES:
            text = json.dumps(rack.recording(name), indent=1) + "\n"
            (Path(folder) / f"{name}.json").write_text(text)


def take_artifacts_away(rack: Appliance) -> None:
    """Lead nginx to an empty folder, as when the cache is on a disk that is not mounted."""
    empty = rack.deploy / "empty"
    (empty / "sha256").mkdir(parents=True)
    link = rack.work / "run" / "artifacts"
    link.unlink()
    link.symlink_to(empty)


def give_artifacts_back(rack: Appliance) -> None:
    link = rack.work / "run" / "artifacts"
    link.unlink()
    link.symlink_to(rack.cache)


@pytest.mark.parametrize(
    ("name", "diagnosis", "says"),
    [
        ("w5", "ignition-refused", ["got 500", "log/serve.log"]),
        ("w6", "disk-missing", ["no disk matches the rule", "machine show w6"]),
        ("w4", "kernel-refused", ["the kernel", "got 404", "image build"]),
        ("w2", "http-blocked", [f"http://{SERVER}:8080", "never asked for it", "firewall"]),
        ("w1", "tftp-blocked", ["was offered snponly.efi", "UDP port 69"]),
        ("w3", "loader-does-not-start", ["snponly.efi was sent", "arch 7", "another processor"]),
    ],
)
def test_a_seeded_failure_is_named_with_its_remedy(
    rack: Appliance, name: str, diagnosis: str, says: list[str]
) -> None:
    """From what the appliance saw alone, as a person reads it."""
    assert wait_for(lambda: rack.diagnosis(name) == diagnosis, FIRMWARE_SECONDS), rack.operator.story(name)

    shown = rack.explain(name)
    sys.stderr.write(shown.stdout)

    assert 1 == shown.returncode, shown.stderr
    *_, cause, remedy = shown.stdout.splitlines()
    assert cause.startswith(f"{diagnosis}: ")
    assert [] == [text for text in says if text not in f"{cause} {remedy}"]


def test_the_story_begins_with_the_first_packet(rack: Appliance) -> None:
    """DISCOVER with arch and vendor class, the offer, TFTP, iPXE, scripts, kernel, initrd, Ignition, the end."""
    told = json.loads(rack.explain("w6", "-o", "json").stdout)
    steps = [step["text"] for boot in told["boots"] for step in boot]

    wanted = [
        r"DHCP DISCOVER PXEClient:Arch:00007:UNDI:003016 \(arch 7\)",
        r"DHCP OFFER 10\.77\.0\.106, boot file snponly\.efi",
        r"DHCP ACK 10\.77\.0\.106, boot file snponly\.efi",
        r"TFTP sent snponly\.efi",
        r"DHCP DISCOVER .*user class iPXE",
        rf"DHCP ACK .*boot file {re.escape(BASE)}/boot\.ipxe",
        r"HTTP boot-script /boot\.ipxe: 200",
        r"iPXE script given: install",
        r"HTTP kernel [0-9a-f]{12}: 200",
        r"HTTP initrd [0-9a-f]{12}: 200",
        r"Ignition document sent",
        r"failed: .*no disk matches",
    ]
    for pattern in wanted:
        found = next((number for number, step in enumerate(steps) if re.search(pattern, step)), None)
        assert found is not None, (pattern, steps)
        steps = steps[found + 1 :]


def test_what_a_machine_says_is_not_obeyed_by_the_terminal(rack: Appliance) -> None:
    shown = rack.explain("w6").stdout

    assert "serial" in shown
    assert [] == [c for c in shown if not c.isprintable() and c != "\n"]


def test_a_machine_that_boots_in_vain_gets_the_rescue_page_until_it_is_armed(rack: Appliance) -> None:
    """Three boots, 20 s apart, end at the kernel; then its console says why, status has it, and arm lets it go."""
    assert wait_for(lambda: "w4 is in a boot loop" in rack.console("w4"), LOOP_SECONDS), rack.console("w4")
    page = rack.console("w4").rpartition("is in a boot loop")[2]

    assert wait_for(lambda: "tries once more" in rack.console("w4"), 10)
    assert "cause: iPXE asked for the kernel" in rack.console("w4"), page
    assert re.search(r"\d\d:\d\d:\d\d HTTP kernel [0-9a-f]{12}: 404", rack.console("w4")), page
    machine = rack.operator.machine("w4")
    assert (True, "armed", 0) == (machine["isLooping"], machine["state"], machine["attempts"])
    assert "machine explain w4" in machine["message"]
    assert "kernel-refused" == rack.diagnosis("w4")

    before = rack.console("w4").count("installing w4")
    give_artifacts_back(rack)
    rack.operator.act("w4", "arm")

    assert wait_for(lambda: rack.console("w4").count("installing w4") > before, 60), rack.console("w4")
    assert rack.operator.machine("w4")["isLooping"] is False
