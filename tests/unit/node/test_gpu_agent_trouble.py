"""configs/node/gpu among programs that hang or fail, a full disk, and an appliance that is busy."""

import re
import shutil

import pytest

from tests.unit.gpu.machines import H100
from tests.unit.gpu.reports import line
from tests.unit.node.appliance import Node
from tests.unit.node.gpu_machine import GpuMachine
from tests.unit.node.test_gpu_agent import WELL, told

BUSY = """#!/bin/sh
if [ -s "$FAKE/busy" ]; then sed -i 1d "$FAKE/busy"; printf 429; else exec {curl} "$@"; fi
"""


@pytest.fixture
def gpus(machine: Node) -> GpuMachine:
    """A node that has joined, in a pool of eight H100."""
    assert machine.join().returncode == 0
    made = GpuMachine(machine)
    made.configure(expected=8, products=["h100-sxm"])
    return made


def test_an_nvidia_smi_that_fails_once_does_not_hold_a_node_that_is_ready(gpus: GpuMachine) -> None:
    gpus.be_well()
    assert gpus.turn() == WELL
    (gpus.folder / "fails-once").touch()

    assert gpus.turn() == WELL
    assert "Unable to determine the device handle; looking once more" in gpus.said


def test_an_nvidia_smi_that_fails_twice_does(gpus: GpuMachine) -> None:
    gpus.be_well()
    assert gpus.turn() == WELL
    gpus.tell("Unable to determine the device handle")
    (gpus.folder / "smi-fails").touch()

    assert gpus.turn() == ("driver-missing", "Unable to determine the device handle")
    assert gpus.said.count("looking once more") == 1
    gpus.turn()
    assert "looking once more" not in gpus.said


def test_a_reason_is_not_the_line_of_a_gpu_that_is_well(gpus: GpuMachine) -> None:
    gpus.be_well()
    said = "Unable to determine the device handle for GPU 0000:08:00.0: GPU is lost."
    gpus.tell(*map(line, range(7)), said)
    (gpus.folder / "smi-fails").touch()
    assert gpus.turn() == ("driver-missing", said)

    gpus.tell(*map(line, range(7)))
    assert gpus.turn() == ("driver-missing", "nvidia-smi ended with code 1")


def test_while_an_nvidia_smi_hangs_in_the_kernel_no_other_is_started(gpus: GpuMachine) -> None:
    gpus.be_well()
    (gpus.folder / "hangs-in-kernel").touch()

    first, second = gpus.turn(), gpus.turn()

    assert first == second
    assert re.fullmatch(r"nvidia-smi hangs since [0-2]\d:[0-5]\d; start the machine anew", first[1])
    assert len((gpus.folder / "smi.log").read_text().splitlines()) == 1
    pid = (gpus.folder / "state/gpu/asking").read_text().split()[0]
    shutil.rmtree(gpus.folder / "proc" / pid)  # the machine was started anew
    (gpus.folder / "hangs-in-kernel").unlink()
    assert gpus.turn() == WELL


@pytest.mark.parametrize("program", ["modprobe", "modinfo", "containerd"])
def test_a_program_that_hangs_does_not_keep_the_report_back(gpus: GpuMachine, program: str) -> None:
    gpus.show(*[H100] * 8)
    (gpus.folder / "module-refused").touch()
    (gpus.folder / "bin" / program).write_text("#!/bin/sh\nexec sleep 70\n")

    assert gpus.turn(FL_SECONDS="1")[0] == "driver-missing"


def test_a_list_of_sysexts_whose_last_line_has_no_end_is_not_spoilt(gpus: GpuMachine) -> None:
    gpus.show(*[H100] * 8)
    conf = gpus.folder / "flatcar/enabled-sysext.conf"
    conf.parent.mkdir()
    conf.write_text("docker\npodman")

    gpus.turn()

    assert conf.read_text() == "docker\npodman\nnvidia-drivers-570-open\n"


def test_a_report_that_comes_too_early_is_sent_once_more(gpus: GpuMachine) -> None:
    gpus.be_well()
    made = gpus.folder / "bin/curl"
    made.write_text(BUSY.format(curl=shutil.which("curl")))
    made.chmod(0o755)
    (gpus.folder / "busy").write_text("x\nx\n")
    pause = gpus.folder / "bin/pause"
    pause.write_text('#!/bin/sh\necho "$1" >>"$FAKE/slept"\n')
    pause.chmod(0o755)

    assert gpus.turn(FL_SLEEP=str(gpus.folder / "bin/pause")) == WELL
    assert told(gpus) == WELL
    pauses = [int(text) for text in (gpus.folder / "slept").read_text().split()]
    assert len(pauses) == 2
    assert all(5 <= seconds <= 20 for seconds in pauses)


def test_a_disk_that_takes_no_file_does_not_keep_the_report_from_the_appliance(gpus: GpuMachine) -> None:
    gpus.be_well()
    (gpus.folder / "state/gpu").write_text("no folder")

    done = gpus.node.run("gpu", FL_SYS=str(gpus.folder / "sys"), FL_PROC=str(gpus.folder / "proc"))

    assert "state/gpu/state cannot be written; the report is sent all the same" in done.stderr
    assert told(gpus)[0] == "plugin-missing"


def test_an_nvidia_smi_that_nothing_can_end_does_not_keep_the_report_back(gpus: GpuMachine) -> None:
    """`timeout` waits for ever for a process that even KILL does not end."""
    gpus.be_well()
    (gpus.folder / "hangs-in-kernel").touch()
    waiting = gpus.folder / "bin/timeout"
    waiting.write_text(
        f'#!/bin/sh\n{shutil.which("timeout")} "$@"\ncase "$*" in *nvidia-smi*) exec sleep 20 ;; esac\n'
    )
    waiting.chmod(0o755)

    state, reason = gpus.turn()

    assert (state, reason.partition(" since ")[0]) == ("driver-missing", "nvidia-smi hangs")
    assert told(gpus) == (state, reason)
