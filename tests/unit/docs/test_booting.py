"""docs/booting.md against the program: states, decisions, parameters, kernel arguments, numbers."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from bootstrap import config
from bootstrap.boot import WAIT_SECONDS, decide
from bootstrap.families import LiveBoot, debian
from bootstrap.model import BootFromDisk
from bootstrap.records.model import MOST_ATTEMPTS, MachineRecord
from bootstrap.render import ipxe
from bootstrap.render.firmware import TABLE
from bootstrap.states import RULES, State
from web import watch

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "booting.md").read_text()
INSTALLER = (ROOT / "configs" / "installer" / "install").read_text()
CLUSTER = config.load([ROOT / "configs" / "lab.yaml"])
W1 = CLUSTER.machines[0]


def record(state: State, reason: str = "") -> MachineRecord:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    return MachineRecord(mac=W1.mac, name="w1", state=state, reason=reason, since=since, arm="a")


def test_table_of_states_is_the_graph() -> None:
    rows = re.findall(
        r"^\| ([a-z-]+) \| (\w+) \| (?:(\d+) min)? ?\| (.*) \|$",
        TEXT.partition("<!-- states -->")[2],
        re.MULTILINE,
    )

    assert [(name, owner, int(minutes or 0) * 60 or None, step) for name, owner, minutes, step in rows] == [
        (str(state), rule.owner, rule.deadline_seconds, rule.next_step) for state, rule in RULES.items()
    ]


@pytest.mark.parametrize(
    ("state", "reason", "image"),
    [
        (State.ARMED, "", "key"),
        (State.ARMED, "", None),
        (State.INSTALLED, "", "key"),
        (State.ACCEPTED, "", "key"),
        (State.RETIRED, "", "key"),
        (State.FAILED, "REASON", "key"),
    ],
)
def test_what_the_console_says_is_in_the_table(state: State, reason: str, image: str | None) -> None:
    said = ipxe.on_console(decide(W1, record(state, reason), image=image).reason)

    assert f"| `{said}` |".replace("REASON", "<reason>") in TEXT


def test_what_a_stranger_is_told_is_in_the_table() -> None:
    assert f"| `{ipxe.unknown_reason('52:54:00:77:00:09')}` |" in TEXT


def test_parameters_are_those_of_the_script() -> None:
    sent = re.findall(r"[?&](\w+)=(\$\{[^}]*\})", ipxe.boot_ipxe(CLUSTER.base_url))

    assert len(set(sent)) == 7
    assert [pair for pair in sent if f"`{pair[0]}`" not in TEXT or f"`{pair[1]}`" not in TEXT] == []


def test_kernel_arguments_are_those_of_the_family() -> None:
    live = LiveBoot(mac=W1.mac, base_url=CLUSTER.base_url, arm="<arm>")
    written = TEXT.partition("is started with\n\n```text\n")[2].partition("```")[0].split()

    assert sorted(written) == sorted((ipxe.INITRD_ARGUMENT, *debian.PLUGIN.live_args(live)))


def test_loaders_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| \w+ \| `(.*)` \|$", TEXT, re.MULTILINE)
    known = {(row.archs, row.loader) for row in TABLE}

    assert len(rows) == 2
    assert {(tuple(map(int, archs.split(", "))), loader) for archs, loader in rows} <= known


def test_numbers_are_the_programs() -> None:
    assert f"again every {WAIT_SECONDS} seconds" in TEXT
    assert MOST_ATTEMPTS == 3
    assert "`3 install attempts did not finish`" in TEXT
    assert f"every {watch.ROUND_SECONDS:.0f} seconds until an SSH server greets" in TEXT
    assert f"every {watch.ASK_AGAIN.total_seconds():.0f} seconds after that" in TEXT
    assert "FL_TRIES:-8" in INSTALLER
    assert "CHUNK=$((16 * MIB))" in INSTALLER
    assert "FL_FAILED_WAIT:-30" in INSTALLER
    for stage in ("clear 2", "grow 82", "configure 90", "commit 97"):
        assert f"progress {stage} " in INSTALLER
        assert "`{}` {} %".format(*stage.split()) in TEXT


def test_marker_is_the_installers() -> None:
    assert re.search(r"`firstlight-marker v1 cluster=lab machine=w1 arm=\S+ image=\S+ state=installed`", TEXT)
    assert "'%s cluster=%s machine=%s arm=%s image=%s state=%s%s\\n'" in INSTALLER
    assert 'MARKER_MAGIC="firstlight-marker v1"' in INSTALLER


def test_the_ways_to_the_disk_are_those_of_the_model_and_the_example_is_taken(tmp_path: Path) -> None:
    marker = "<!-- config: run over configs/lab.yaml -->\n```yaml\n"
    layer = tmp_path / "ways.yaml"
    layer.write_text(TEXT.partition(marker)[2].partition("```")[0])
    cluster = config.load([ROOT / "configs/lab.yaml", layer])

    ways = [cluster.boot_from_disk_method_of(machine) for machine in cluster.machines]
    assert ways == ["ipxe-exit", "http-404"]
    table = TEXT.partition("| `bootFromDiskMethod` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == set(get_args(BootFromDisk))
