"""configs/node/gpu against the real application: one state of seven, what it brings, and what the appliance sees."""

import stat

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootstrap.model import Os
from bootstrap.records.ledger import Change
from bootstrap.records.model import GpuRecord
from tests.unit.certs import crafted
from tests.unit.gpu.machines import A100, B200, H100, K80, V100
from tests.unit.gpu.reports import line
from tests.unit.node.appliance import Node
from tests.unit.node.gpu_machine import GpuMachine
from tests.unit.web.fakes import W1

DEBIAN = Os(family="debian", release="13")
WELL = ("ready", "")


@pytest.fixture
def gpus(machine: Node) -> GpuMachine:
    """A node that has joined, in a pool of eight H100."""
    assert machine.join().returncode == 0
    made = GpuMachine(machine)
    made.configure(expected=8, products=["h100-sxm"])
    return made


def told(gpus: GpuMachine) -> tuple[str, str]:
    """Return what the appliance knows."""
    found = gpus.node.rack.machine()["gpu"]
    return found["state"], found["reason"]


def test_eight_gpus_with_all_that_they_need_are_ready(gpus: GpuMachine) -> None:
    gpus.be_well()

    assert gpus.turn() == WELL
    assert told(gpus) == WELL
    found = gpus.written()
    assert [one["id"] for one in found["devices"]] == [H100] * 8
    assert found["devices"][0] == {"address": "0000:01:00.0", "id": H100, "driver": "nvidia"}
    assert (found["driver"], found["flavour"], found["plugin"]) == ("570.133.20", "open", 8)
    assert found["lines"] == [line(number) for number in range(8)]
    assert found["fabric"] == []


def test_what_the_driver_says_of_the_fabric_is_told(gpus: GpuMachine) -> None:
    gpus.be_well()
    lines = [f"{number}, In Progress, N/A" for number in range(8)]
    (gpus.folder / "fabric").write_text("".join(f"{each}\n" for each in lines))

    assert gpus.turn() == WELL
    found = gpus.written()
    assert (found["fabric"], len(found["lines"])) == (lines, 8)


@pytest.mark.parametrize(
    ("spoil", "state", "reason"),
    [
        (lambda one: one.show(), "no-device", "no NVIDIA device on PCI"),
        (lambda one: one.unplug(3), "no-device", "7 of 8 GPUs on PCI"),
        (lambda one: one.show(*[H100] * 7, A100), "no-device", f"10de:{A100} on PCI is none of the pool's GPUs"),
        (
            lambda one: one.load_driver("535.274.02", "open"),
            "driver-mismatch",
            "driver 535.274.02 (open) is loaded, wanted is 570 (open)",
        ),
        (
            lambda one: one.load_driver(flavour="closed"),
            "driver-mismatch",
            "driver 570.133.20 (closed) is loaded, wanted is 570 (open)",
        ),
        (
            lambda one: (one.pci / one.address(2) / "driver").unlink(),
            "driver-missing",
            "the driver has not taken 0000:03:00.0",
        ),
        (lambda one: one.tell(*map(line, range(7))), "driver-missing", "nvidia-smi lists 7 of 8 GPUs"),
        (lambda one: one.offer(0), "plugin-missing", "the device plugin has offered 0 of 8 GPUs to kubelet"),
        (
            lambda one: (one.folder / "bin/nvidia-container-runtime").unlink(),
            "runtime-missing",
            "containerd's handler nvidia runs nvidia-container-runtime, which is not there",
        ),
        (
            lambda one: (one.folder / "containerd.toml").write_text(""),
            "runtime-missing",
            "containerd has no handler nvidia",
        ),
        (lambda one: (one.folder / "bin/nvidia-smi").unlink(), "driver-missing", "nvidia-smi is not installed"),
        (
            lambda one: (one.folder / "hangs").touch(),
            "driver-missing",
            "nvidia-smi gave no answer in 1 s",
        ),
    ],
)  # fmt: skip
def test_the_first_thing_that_lacks_is_the_state(
    gpus: GpuMachine, spoil: object, state: str, reason: str
) -> None:
    gpus.be_well()
    spoil(gpus)  # type: ignore[operator]

    assert gpus.turn() == (state, reason)
    assert told(gpus) == (state, reason)


def test_eight_b200_are_none_of_a_pool_of_h100_and_right_in_one_of_their_own(gpus: GpuMachine) -> None:
    gpus.be_well([B200] * 8)
    assert gpus.turn() == ("no-device", f"10de:{B200} on PCI is none of the pool's GPUs")

    gpus.configure(expected=8, products=["b200"])
    assert gpus.turn() == WELL


def test_a_v100_in_a_pool_that_names_no_products_is_not_ready_with_another_driver_than_its_pool_s(
    gpus: GpuMachine,
) -> None:
    gpus.configure()
    gpus.be_well([V100])
    gpus.load_driver("535.274.02", "closed")

    assert gpus.turn() == ("driver-mismatch", "driver 535.274.02 (closed) is loaded, wanted is 570 (open)")
    assert gpus.turn()[0] == "driver-mismatch"


def test_kinds_that_no_driver_serves_here_get_that_of_their_pool(gpus: GpuMachine) -> None:
    """The gate says that it is not theirs."""
    gpus.configure()
    gpus.show(A100, K80)

    state, reason = gpus.turn()

    assert state == "driver-missing"
    assert "nvidia-drivers-570-open" in reason


@pytest.mark.usefixtures("old_drivers")
def test_kinds_that_one_driver_of_old_serves_are_ready_with_it(gpus: GpuMachine) -> None:
    """A100 and K80 in one box: 470, in a pool that names them; its image holds that driver."""
    gpus.configure(os=Os(family="debian", release="12"), products=["a100-sxm4-80gb", "k80"])
    gpus.be_well([A100, K80])
    gpus.load_driver("470.256.02", "closed")

    assert gpus.turn() == WELL
    gpus.load_driver("535.309.01", "closed")
    assert gpus.turn()[0] == "driver-mismatch"


@pytest.mark.usefixtures("old_drivers")
def test_kinds_that_want_another_driver_than_their_image_holds_are_not_ready(gpus: GpuMachine) -> None:
    """The pool does not name them: all its nodes get one driver, and the appliance names no other to this one."""
    gpus.configure(os=Os(family="debian", release="12"))
    gpus.be_well([A100, K80])
    gpus.load_driver("470.256.02", "closed")

    state, reason = gpus.turn()

    assert (state, reason) == (
        "driver-mismatch",
        "driver 470.256.02 (closed) is loaded, wanted is 535 (closed)",
    )
    assert not (gpus.folder / "state/gpu/answer").read_text()


def test_no_gpu_where_none_is_asked_for_is_none(gpus: GpuMachine) -> None:
    gpus.configure(installCuda=False)
    assert gpus.turn() == ("none", "")

    gpus.show(H100)
    assert gpus.turn() == ("ready", "1 GPUs; installCuda is false")


# --- the 5-minute check ------------------------------------------------------------------------------------


def test_a_gpu_that_comes_later_gets_the_driver_of_the_disk_with_no_new_installation(
    gpus: GpuMachine,
) -> None:
    gpus.configure()
    arm = gpus.node.rack.record().arm
    gpus.register_runtime()
    assert gpus.turn() == ("no-device", "no NVIDIA device on PCI")
    assert gpus.turn() == ("no-device", "no NVIDIA device on PCI")

    gpus.plug(H100)
    gpus.driver_on_disk()

    assert gpus.turn() == ("plugin-missing", "the device plugin has offered 0 of 1 GPUs to kubelet")
    assert "loaded driver 570.133.20" in gpus.said
    gpus.offer(1)
    assert gpus.turn() == WELL
    assert gpus.node.rack.record().arm == arm
    assert gpus.node.rack.record().attempts == 0  # nothing was written anew
    assert gpus.written()["at"] == 1_800_000_000 + 4 * 300


def test_on_flatcar_the_sysext_is_named_once_and_what_is_needed_is_said(gpus: GpuMachine) -> None:
    gpus.show(*[H100] * 8)
    conf = gpus.folder / "flatcar/enabled-sysext.conf"
    conf.parent.mkdir()
    conf.write_text("docker\n")

    first, second = gpus.turn(), gpus.turn()

    assert first == second
    assert first[0] == "driver-missing"
    assert "nvidia-drivers-570-open, and Flatcar fetches it at the next start" in first[1]
    assert conf.read_text() == "docker\nnvidia-drivers-570-open\n"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o644


def test_a_driver_that_was_verified_stays_until_another_is_ordered_for_this_node(gpus: GpuMachine) -> None:
    """Its pool wants another one by now, and gpu.env says so to all nodes alike (gpu upgrade)."""
    conf = gpus.folder / "flatcar/enabled-sysext.conf"
    conf.parent.mkdir()
    conf.write_text("docker\nnvidia-drivers-550-open\nnvidia-drivers-570\n")
    gpus.be_well()
    gpus.load_driver("550.163.01")
    rack = gpus.node.rack
    verified = GpuRecord(since=rack.clock(), verified="550.163.01 (open)")
    rack.site.ledger.change(W1, lambda found, _: Change(record=found and found.but(gpu=verified)))

    gpus.turn()
    assert gpus.turn() == WELL
    assert conf.read_text() == "docker\nnvidia-drivers-550-open\n"

    order = rack.operator("POST", "/v1/machines/w1/driver", json={})
    assert order.status_code == 200, order.text
    gpus.turn()
    state, reason = gpus.turn()
    assert state == "driver-mismatch"
    assert "names nvidia-drivers-570-open, and Flatcar fetches it at the next start" in reason
    assert conf.read_text() == "docker\nnvidia-drivers-570-open\n"

    back = rack.operator("POST", "/v1/machines/w1/driver", json={"driver": "550 (open)"})
    assert back.status_code == 200, back.text
    gpus.turn()
    assert gpus.turn() == WELL
    assert conf.read_text() == "docker\nnvidia-drivers-550-open\n"


def test_on_flatcar_of_old_the_service_that_compiles_is_started(gpus: GpuMachine) -> None:
    gpus.configure(os=Os(family="flatcar", release="3760.2.0"), expected=1, products=["t4"])
    gpus.show("1eb8")
    gpus.node.calls()

    assert gpus.turn()[1] == "nvidia.service was started: it compiles the driver, which takes ten minutes"
    assert "--no-block start nvidia.service" in gpus.node.calls()


def test_on_debian_a_disk_without_the_module_needs_another_image(gpus: GpuMachine) -> None:
    gpus.configure(os=DEBIAN, expected=1, products=["t4"])
    gpus.show("1eb8")

    state, reason = gpus.turn()

    assert state == "driver-missing"
    assert "no module for kernel" in reason
    assert "modprobe: FATAL: Module nvidia not found." in reason
    assert reason.endswith("it needs an image with the driver, and machine arm w1")


def test_a_module_that_the_kernel_does_not_take_is_told_with_its_words(gpus: GpuMachine) -> None:
    """As with Secure Boot: another start would change nothing."""
    gpus.show(*[H100] * 8)
    (gpus.folder / "module-refused").touch()

    assert gpus.turn() == (
        "driver-missing",
        "the kernel does not take the module on this disk: modprobe: ERROR: Key was rejected by service",
    )
    assert not (gpus.folder / "flatcar/enabled-sysext.conf").exists()


def test_a_gpu_that_vanishes_alarms_once_and_the_alarm_ends_when_it_is_back(gpus: GpuMachine) -> None:
    gpus.be_well()
    gpus.turn()

    gpus.unplug(3)
    gpus.turn()
    gpus.turn()

    rack = gpus.node.rack
    told = "GPU 0000:04:00.0 has vanished from PCI; seat it, or write expected: 7"
    assert rack.machine()["gpu"]["alarm"] == told
    assert f"ALARM: {told}" in rack.machine()["message"]
    alarms = [event for event in rack.site.ledger.events_of(W1) if event.what == "alarm"]
    assert [event.reason for event in alarms] == ["w1: GPU 0000:04:00.0 has vanished from PCI; 7 are there"]
    gpus.show(*[H100] * 8)
    gpus.take()
    assert gpus.turn() == WELL
    assert rack.machine()["gpu"]["alarm"] == ""


# --- how it tells ------------------------------------------------------------------------------------------


def test_before_it_has_joined_it_looks_at_nothing_and_is_no_failure(machine: Node) -> None:
    made = GpuMachine(machine)
    made.configure(expected=8)

    done = machine.run("gpu")

    assert done.returncode == 0
    assert not (made.folder / "state/gpu/state").exists()


def test_the_appliance_may_be_away_and_the_state_is_written_all_the_same(gpus: GpuMachine) -> None:
    gpus.be_well()
    env = gpus.folder / "etc/node.env"
    env.write_text(env.read_text().replace(gpus.node.server, "https://127.0.0.1:9"))

    done = gpus.node.run("gpu", FL_SYS=str(gpus.folder / "sys"), FL_PROC=str(gpus.folder / "proc"))

    assert done.returncode == 1
    assert "the appliance does not take the report (status 000)" in done.stderr
    assert gpus.written()["state"] == "plugin-missing"


def test_a_key_that_is_not_the_node_s_is_not_believed(gpus: GpuMachine) -> None:
    gpus.be_well()
    (gpus.folder / "state/node.key").write_text(other_key())

    done = gpus.node.run("gpu", FL_SYS=str(gpus.folder / "sys"))

    assert done.returncode == 1
    assert "(status 400)" in done.stderr
    assert gpus.node.rack.record().gpu is None


def other_key() -> str:
    key = crafted.key("p256", 7)
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


@pytest.mark.parametrize(("length", "lines", "longest"), [(5000, 13, 400), (600, 64, 400), (250, 64, 339)])
def test_what_is_there_without_end_is_cut_off_and_the_rest_is_taken(
    gpus: GpuMachine, length: int, lines: int, longest: int
) -> None:
    gpus.configure()
    gpus.show(*[H100] * 80)
    gpus.load_driver()
    gpus.tell(*(line(1, name="x" * length) for _ in range(500)))

    gpus.turn()

    found = gpus.written()
    assert (len(found["devices"]), len(found["lines"])) == (64, lines)
    assert max(map(len, found["lines"])) == longest
    assert told(gpus)[0] == found["state"]


def test_a_driver_of_old_that_does_not_know_a_field_is_asked_without_it(gpus: GpuMachine) -> None:
    gpus.be_well()
    (gpus.folder / "old-smi").touch()

    assert gpus.turn() == WELL
    asked = [each for each in (gpus.folder / "smi.log").read_text().splitlines() if "fabric" not in each]
    assert [("gpumax" in each) for each in asked] == [True, False]
    assert asked[1].count(",") == asked[0].count(",")


@pytest.mark.parametrize("text", ["", "{", '{"Data": null}', '{"Data": {"RegisteredDevices": {"a": ["b"]}}}'])
def test_a_checkpoint_of_kubelet_that_says_nothing_is_no_plugin(gpus: GpuMachine, text: str) -> None:
    gpus.be_well()
    (gpus.folder / "plugins/kubelet_internal_checkpoint").write_text(text)

    assert gpus.turn() == ("plugin-missing", "the device plugin has offered 0 of 8 GPUs to kubelet")


def test_a_warning_of_nvidia_smi_is_no_gpu(gpus: GpuMachine) -> None:
    gpus.be_well()
    gpus.tell(*map(line, range(8)), "WARNING: infoROM is corrupted at gpu 0000:01:00.0")

    assert gpus.turn() == WELL


def test_libraries_of_another_version_are_a_mismatch(gpus: GpuMachine) -> None:
    gpus.be_well()
    said = "Failed to initialize NVML: Driver/library version mismatch"
    gpus.tell(said)
    (gpus.folder / "smi-fails").touch()

    assert gpus.turn() == ("driver-mismatch", said)
