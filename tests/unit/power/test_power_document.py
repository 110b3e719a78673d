"""docs/power.md: its commands run, its configuration loads and shows every driver, and its table is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

from bootstrap import config, power, rooms
from tests.docs_commands import commands
from tests.samples import ROOT

DOCUMENT = ROOT / "docs" / "power.md"
TEXT = DOCUMENT.read_text()
PLUG = '#!/bin/sh\n[ "$1" = status ] && exec cat "$FIRSTLIGHT_MACHINE"\necho "$1" >"$FIRSTLIGHT_MACHINE"\n'


def shown_config() -> str:
    found = re.search(r"<!-- config: power -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert found
    head = re.search(
        r"<!-- config: run -->\n```yaml\n(.*?)```", (ROOT / "docs/config.md").read_text(), re.DOTALL
    )
    assert head
    base = head[1].replace("kubernetes:\n", "kubernetes:\n  cni: {plugin: flannel}\n")
    return base[: base.index("machines:")] + found[1]


def test_the_configuration_loads_and_shows_every_driver_that_has_keys(tmp_path: Path) -> None:
    file = tmp_path / "rack.yaml"
    file.write_text(shown_config())
    shown = {machine.power.driver for machine in config.load([file]).machines if machine.power}

    assert shown == set(rooms.names(power)) - {"manual", "lab"}


def test_the_table_of_drivers_is_whole_and_tells_which_choose_the_network() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", TEXT.partition("## Which driver")[2], re.MULTILINE)
    told = {name: cells.split(" | ") for name, cells in rows}

    assert sorted(told) == sorted(rooms.names(power))
    for name, cells in told.items():
        driver = rooms.load(power, name, type, where="power.driver")
        can = "netboot" in vars(driver)
        assert can is (cells[3] != "no"), name


def test_what_is_said_is_in_the_sources() -> None:
    said = re.findall(r"^\| `(.*)` \| ", TEXT.partition("## When it does not work")[2], re.MULTILINE)
    sources = "".join(
        path.read_text()
        for path in (*(ROOT / "bootstrap/power").glob("*.py"), ROOT / "bootstrap/switching.py")
    )

    assert len(said) >= 5
    for line in said:
        for part in re.sub(r"'admin'|60 s|\boff\b|\bon\b", "...", line).split("..."):
            assert part.strip() in sources, part


def test_the_commands_run(tmp_path: Path) -> None:
    text = shown_config()
    words_of = ", ".join(f"{word}: [./plug, {word}]" for word in ("on", "off", "status", "netboot"))
    plugs = f"{{driver: command, {words_of}}}"
    machines = "".join(
        f'  - {{name: {name}, mac: "52:54:00:aa:00:0{name[1]}", pool: workers, power: {plugs}}}\n'
        for name in ("w1", "w2")
    )
    (tmp_path / "rack.yaml").write_text(text[: text.index("machines:")] + "machines:\n" + machines)
    (tmp_path / "plug").write_text(PLUG.replace("echo", '[ "$1" = netboot ] || echo'))
    (tmp_path / "plug").chmod(0o700)
    for name in ("w1", "w2"):  # switched side by side
        (tmp_path / name).write_text("off\n")
    for words in commands(DOCUMENT, "anywhere"):
        done = subprocess.run(
            [sys.executable, ROOT / words[0], *words[1:]],
            cwd=tmp_path,
            env={**os.environ, "FIRSTLIGHT_DEPLOY": str(tmp_path / "deploy"), "FIRSTLIGHT_NO_VENV": "1"},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("NAME")
