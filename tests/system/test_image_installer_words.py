"""What the installer says and reads besides, and the report of the installed system."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system.installer_shell import ARM, INSTALLER, SHELLS, Sandbox

pytestmark = pytest.mark.system


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path, "dash")


@pytest.fixture(params=SHELLS)
def any_box(tmp_path: Path, request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox(tmp_path, request.param)


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
