"""What both sides of the connection must agree on: the script's words, and what is made of its answers."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest

from bootstrap.apply import host, manifest
from bootstrap.apply.facts import Found, UnitFacts, facts_from
from bootstrap.apply.plan import Enable, Restart, Retire, Start
from bootstrap.apply.run import unit_lines
from bootstrap.apply.tar import new_name, tar
from bootstrap.errors import HostError, RenderError, UsageError
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile
from tests.unit.apply.sample_hosts import tree_of

SCRIPT = host.SCRIPT.read_text()


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def said(*lines: tuple[str, str, str]) -> bytes:
    return "".join(json.dumps({"fact": a, "name": b, "value": c}) + "\n" for a, b, c in lines).encode()


def test_the_script_is_sound_shell() -> None:
    assert subprocess.run(("sh", "-n", host.SCRIPT), check=False).returncode == 0


def test_every_refusal_of_the_script_has_its_text() -> None:
    words = set(re.findall(r"refuse (\w+) ", SCRIPT))

    assert words - set(host._REFUSALS) == {"failed"}
    assert set(host._REFUSALS) <= words


@pytest.mark.parametrize(
    "step",
    [
        Start("m1", "etcd.service", "0a"),
        Restart("m1", "app.service", "0a"),
        Retire("m1", "x"),
        Enable("m1", "x"),
    ],
)
def test_the_script_knows_every_line_about_units(step: Start | Restart | Retire | Enable) -> None:
    for line in unit_lines(step):
        assert re.search(rf"^        (\w+ \| )?{line.split()[0]}( \| \w+)?\)", SCRIPT, re.MULTILINE), line


def test_new_content_waits_where_the_script_looks_for_it(tmp_path: Path) -> None:
    function = SCRIPT[SCRIPT.index("new_name()") :].partition("\n}\n")[0]
    run = f'{function}\n}}\nnew_name "$1"'
    done = subprocess.run(("sh", "-c", run, "sh", "/etc/app/key"), capture_output=True, text=True, check=True)

    assert done.stdout == new_name("/etc/app/key")
    assert tmp_path.exists()


def test_the_script_reads_the_paths_of_our_manifest(tmp_path: Path) -> None:
    tree = tree_of("m1")
    (tmp_path / "manifest.json").write_bytes(manifest.manifest("rack1", tree))
    (tmp_path / "journal.json").write_bytes(manifest.journal("rack1", tree, ["/gone"]))
    function = SCRIPT[SCRIPT.index("ours()") :].partition("\n}\n")[0]
    done = subprocess.run(
        ("sh", "-c", f"state={tmp_path}\n{function}\n}}\nours"), capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == [*tree.files, *sorted([*tree.files, "/gone"])]


def test_a_manifest_holds_sums_and_no_content() -> None:
    text = manifest.manifest("rack1", tree_of("m1"))

    assert json.loads(text)["files"][0] == {
        "path": "/etc/app/config",
        "sha256": "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806",
        "mode": "0644",
        "owner": "root",
        "group": "root",
    }
    assert text == manifest.manifest("rack1", tree_of("m1"))
    assert b"hidden" not in text


@pytest.mark.parametrize("path", ["/etc/a b", "/etc/$(x)", '/etc/"', "/etc/a\nb", "/etc/*"])
def test_a_path_that_a_shell_could_misread_never_leaves(path: str) -> None:
    with pytest.raises(RenderError, match="no name for a file on a host"):
        manifest.manifest("rack1", HostTree("m1", {path: HostFile(b"")}))


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff", b'{"files": []}'])
def test_a_manifest_that_cannot_be_read_lists_nothing(content: bytes | None) -> None:
    assert manifest.sums_of(content) == {}


def test_an_answer_becomes_facts() -> None:
    shown = (
        "Id=a.service\nLoadState=loaded\nActiveState=active\nMainPID=7\nUnitFileState=enabled\n\n"
        "Id=b.service\nLoadState=not-found\nActiveState=inactive\nMainPID=0\nUnitFileState=\n"
    )
    facts = facts_from(
        "m1",
        said(
            ("text", "os-release", coded('ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian 13"\n')),
            ("word", "arch", "x86_64"),
            ("word", "systemd", "257"),
            ("word", "clock", "1800000000"),
            ("space", "/etc", "1024 42"),
            ("word", "leftover", "yes"),
            ("file", "/etc/a", f"file {'0' * 64} 640 root app"),
            ("content", "/etc/a", coded("text")),
            ("file", "/etc/b", "absent"),
            ("stamp", "a.service", "0a"),
            ("text", "units", coded(shown)),
            ("word", "end", "yes"),
        ),
    )

    assert facts.os == {"ID": "debian", "VERSION_ID": "13", "PRETTY_NAME": "Debian 13"}
    assert (facts.arch, facts.systemd, facts.is_cut) == ("x86_64", 257, True)
    assert facts.space["/etc"].free == 1024 * 1024
    assert facts.files["/etc/a"] == Found("file", "0" * 64, 0o640, "root", "app", b"text")
    assert facts.files["/etc/b"] == Found()
    assert facts.units == {
        "a.service": UnitFacts("loaded", "active", 7, "enabled", "0a"),
        "b.service": UnitFacts("not-found", "inactive", 0, "", ""),
    }


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "cut off"),
        (said(("word", "arch", "x86_64")), "cut off"),
        (b"Welcome to m1!\n", "login script"),
        (b"\xff\n", "login script"),
        (b"[]\n", "login script"),
        (said(("text", "units", "?"), ("word", "end", "yes")), "cannot be read"),
        (said(("space", "/etc", "much"), ("word", "end", "yes")), "cannot be read"),
    ],
)
def test_an_answer_that_is_none_is_told(answer: bytes, words: str) -> None:
    with pytest.raises(HostError, match=words):
        facts_from("m1", answer)


def test_a_tar_holds_each_file_once_private_and_whole(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x" * 700_000)
    files = {"/opt/program": HostFile(LocalFile(program, "0" * 64), 0o755), "/etc/a": HostFile(b"text")}
    archive = tmp_path / "a.tar"
    chunks = list(tar(files))
    archive.write_bytes(b"".join(chunks))

    shown = subprocess.run(("tar", "-tvf", archive), capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["-rw-------"] * 2
    subprocess.run(("tar", "-xf", archive, "-C", tmp_path), check=True)
    assert (tmp_path / "opt" / ".program.firstlight").read_bytes() == program.read_bytes()
    assert max(map(len, chunks)) <= 256 * 1024


def test_a_program_that_is_gone_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        list(tar({"/opt/program": HostFile(LocalFile(tmp_path / "none", "0" * 64))}))
