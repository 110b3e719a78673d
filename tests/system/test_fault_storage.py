"""The disk fails under the appliance: full, read-only, and each sync in turn (R-13, S-18)."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system import storage_gate, web_bench
from tests.system.storage_bench import (
    History,
    Told,
    appliance,
    application_of,
    attached,
    command,
    crew_of,
    crowd,
    disk,
    hold,
    macs,
    mounted,
    reporting,
    start_again,
    stop,
    stored,
)
from tests.system.storage_taker import CREW
from tests.tier import Promise, rounds

pytestmark = [pytest.mark.system, pytest.mark.promise]

SYNCS = 50
NEVER = "60000"  # strace counts to 65,535
MACHINES = 16
REPORTS = 60  # each is a commit of its own here, and each commit a sync
MANY_REPORTS = 190  # as many as the server lets CREW machines tell at once
PATIENCE_SECONDS = 60
LOOPBACK: dict[str, object] = {"interface": "lo", "address": "127.78.0.1/24", "dhcp": {"mode": "off"}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the rendered documents of a small crowd."""
    work = tmp_path_factory.mktemp("storage-bundle")
    web_bench.render(crowd(CREW, LOOPBACK), work)
    return work / "bundle"


@dataclass(frozen=True)
class Run:
    """One life of the application: what it answered, what it logged, how it ended."""

    history: History
    reads: list[int]
    log: str
    code: int


def taken(reports: int, works: Sequence[Path], *prefix: str) -> dict[Path, Run]:
    """Let the application take `reports` in each of `works`, below the command `prefix`."""
    argv = (*prefix, sys.executable, "-m", "tests.system.storage_taker", str(reports), *map(str, works))
    done = subprocess.run(
        argv, cwd=web_bench.ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return {work: _run(done, [line for line in said if line["work"] == str(work)]) for work in works}


def _run(done: subprocess.CompletedProcess[str], said: Sequence[dict[str, Any]]) -> Run:
    history = History([Told(**line["told"]) for line in said])
    return Run(history, [status for line in said for status in line["reads"]], done.stderr, done.returncode)


def failing(trace: Path, when: str) -> tuple[str, ...]:
    """Return the command that lets the syncs named by `when` fail, and traces what reached the disk."""
    fault = f"fsync,fdatasync:error=EIO:when={when}"
    options = ("-f", "--seccomp-bpf", "-y", "-xx", "-s", "70000", "-o", str(trace))
    return ("strace", *options, "-e", f"trace={storage_gate.TRACED}", "-e", f"inject={fault}")


@dataclass(frozen=True)
class Trial:
    """Syncs that failed in the store of `work`, and what became of them."""

    when: str
    work: Path
    injected: int
    run: Run


def trial(folder: Path, bundle: Path, when: str, reports: int = REPORTS) -> Trial:
    """Let syncs fail in a store of its own, and look at what the disk holds if the power goes right after."""
    work, trace, cut = folder / "work", folder / "trace", folder / "cut"
    for made in (work, cut):
        made.mkdir(parents=True)
    (work / "bundle").symlink_to(bundle)
    run = taken(reports, [work], *failing(trace, when))[work]
    for name, content in storage_gate.disk_after(trace, work / "state").items():
        (cut / name).write_bytes(content)
    if run.history.acknowledged():
        hold(stored(cut / "state.db"), run.history)
    injected = storage_gate.failed_syncs(trace)
    trace.unlink()
    return Trial(when, work, injected, run)


def trials(folder: Path, bundle: Path, cases: Sequence[str], reports: int = REPORTS) -> list[Trial]:
    """Do a trial per case, then start each store once more without faults: it serves, and nothing is lost."""
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda when: trial(folder / when, bundle, when, reports), cases))
    after = taken(CREW, [one.work for one in done])
    for one in done:
        again = after[one.work]
        assert again.history.statuses() == {200: CREW}, (one.when, again.log)
        hold(stored(one.work / "state/state.db"), History([*one.run.history.told, *again.history.told]))
    return done


def test_each_of_the_first_syncs_fails_and_nothing_acknowledged_is_lost(
    tmp_path: Path, bundle: Path, promise: Promise
) -> None:
    """One run per sync: `when` counts them from the making of the file on."""
    done = trials(tmp_path, bundle, [str(number) for number in range(1, SYNCS + 1)])
    for one in done:
        # The thread that makes the last-good copy has syncs of its own, counted on their own.
        assert one.injected >= 1, (one.when, one.run.log)
        is_told_plainly(one)
    refused = sum(503 in one.run.history.statuses() for one in done)
    stopped = sum(one.run.code != 0 for one in done)
    promise(
        promise="S-18 EIO at each fsync",
        asked="each of the first 50 syncs fails: 0 acknowledged events lost, nothing torn",
        done=f"{len(done)} syncs failed, one a run; then a power cut without what the kernel forgot, and a restart",
        found=f"0 lost; {refused} times 503, then on; {stopped} times ended with the reason and started again",
    )


def test_a_disk_that_never_syncs_again_gets_nothing_acknowledged(tmp_path: Path, bundle: Path) -> None:
    for one in trials(tmp_path, bundle, ["15+", "25+", "40+"]):
        is_told_plainly(one)
        answers = [told.status for told in one.run.history.told]
        first = answers.index(503)
        assert set(answers[first:]) == {503}, (one.when, answers)


def test_the_syncs_of_a_checkpoint_fail_and_nothing_acknowledged_is_lost(
    tmp_path: Path, bundle: Path
) -> None:
    """SQLite moves its log into the file every 1,000 pages; that such a move fails is no news to those who report."""
    work, trace = tmp_path / "work", tmp_path / "trace"
    work.mkdir()
    (work / "bundle").symlink_to(bundle)
    taken(MANY_REPORTS, [work], *failing(trace, NEVER))
    moves = [at for at, name in enumerate(storage_gate.syncs(trace), start=1) if name == "state.db"]
    moves = [at for at in moves if at > SYNCS]
    assert moves, "no checkpoint came"

    for one in trials(
        tmp_path, bundle, [str(at + by) for at in moves[:2] for by in (-1, 0, 1)], MANY_REPORTS
    ):
        assert one.injected >= 1, (one.when, one.run.log)
        is_told_plainly(one)


@pytest.mark.parametrize("level", ["OFF", "NORMAL"])
def test_this_test_can_fail_without_syncs_the_disk_lacks_what_was_acknowledged(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("STORAGE_SYNCHRONOUS", level)

    with pytest.raises((AssertionError, sqlite3.Error)):
        trial(tmp_path, bundle, NEVER)


def is_told_plainly(one: Trial) -> None:
    """Assert that each refusal was clean, reads went on, and the log names the reason, once, without a traceback."""
    story = (one.when, one.run.log, one.run.history.statuses())
    assert "Traceback" not in one.run.log, story
    if one.run.code != 0:
        assert "web cannot start: state/state.db: cannot" in one.run.log, story
    assert set(one.run.history.statuses()) <= {200, 503}, story
    assert all(told.retry_after for told in one.run.history.told if told.status == 503), story
    assert set(one.run.reads) <= {200}, story
    assert one.run.log.count("disk I/O error") <= 1, story


def await_answers(web: web_bench.Appliance, history: History, status: int, more: int) -> None:
    """Return when `more` answers with `status` have come from now on."""
    wanted = history.statuses()[status] + more
    web_bench.wait_for(
        lambda: history.statuses()[status] >= wanted, lambda: f"{history.statuses()}\n{web.text()[-3000:]}"
    )


def serves_reads(web: web_bench.Appliance) -> None:
    """Assert that machines still get their boot script and Ignition, and the operator the list."""
    for mac in macs(MACHINES):
        script = web.plain("GET", f"/ipxe?mac={mac}&platform=efi")
        assert (script.status, b"firstlight.arm=" in script.body) == (200, True), script
        assert web.plain("GET", f"/v1/ignition/{mac}").status == 200
    assert len(web.operator.machines()) == MACHINES


def fill(folder: Path) -> Path:
    """Write until the disk is full; return the file that fills it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            for block in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(block)):
                        pass
        finally:
            assert os.statvfs(folder).f_bavail == 0
    return filler


def is_clean(web: web_bench.Appliance, history: History) -> None:
    """Assert that every answer was a 200, a 429, a 503 with Retry-After, or none; and that the log is readable."""
    statuses = history.statuses()
    assert set(statuses) <= {0, 200, 429, 503}, statuses
    assert all(told.retry_after for told in history.told if told.status == 503)
    assert "Traceback" not in web.text(), web.text()[-3000:]


def test_a_full_disk_refuses_cleanly_and_goes_on_when_there_is_room(tmp_path: Path, promise: Promise) -> None:
    """The whole work folder is on the full disk: store, logs, sockets. Twice, with a kill of the holder while full."""
    times, history = rounds(ci=2, soak=10), History()
    options = ("-o", "size=32m,mode=0700", "tmpfs")
    with mounted("tmpfs", tmp_path / "work", *options), appliance(tmp_path, MACHINES) as web:
        with reporting(crew_of(web, history)):
            await_answers(web, history, 200, 100)
            for _ in range(times):
                filler = fill(web.work)
                await_answers(web, history, 503, 50)
                serves_reads(web)
                for pid in application_of(web):
                    os.kill(pid, signal.SIGKILL)
                web.await_ready()
                serves_reads(web)
                filler.unlink()
                await_answers(web, history, 200, 200)
        is_clean(web, history)
        assert 1 <= web.text().count("database or disk is full") <= 4 * times, web.text()
        stop(web)
        hold(stored(web.work / "state/state.db"), history)
    counts = history.statuses()
    promise(
        promise="R-13 disk full",
        asked="refused cleanly, reads go on, 0 acknowledged events lost, goes on by itself",
        done=f"{times} times full under {MACHINES} reporting machines, with a kill -9 of web while full",
        found=f"{counts[200]} acknowledged, 0 lost; {counts[503]} times 503; 0 other errors",
    )


def test_a_disk_that_turns_read_only_refuses_cleanly_and_serves_again_once_mended(
    tmp_path: Path, promise: Promise
) -> None:
    """ext4 stops writing by itself after an error of the disk; its option `abort` brings that about.

    Nothing can be written until the file system was checked and mounted anew. The appliance may be started before
    that is done, as at the boot of a computer whose disk is not in order: it waits, and serves when it can.
    """
    times, history = rounds(ci=2, soak=50), History()
    state = tmp_path / "work" / "state"
    with ExitStack() as stack:
        image = disk(tmp_path / "disk", 64)
        stack.enter_context(mounted("ext4", state, stack.enter_context(attached(image))))
        web = stack.enter_context(appliance(tmp_path, MACHINES))
        for _ in range(times):
            with reporting(crew_of(web, history)):
                await_answers(web, history, 200, 100)
                command("mount", "-o", "remount,abort", str(state))
                await_answers(web, history, 503, 50)
                serves_reads(web)
            stop(web)
            is_clean(web, history)
            assert 1 <= web.text().count("cannot write") <= 4 * times, web.text()
            mend(state, image, stack)
            starts_once_it_can_write(web, state)
        with reporting(crew_of(web, history)):
            await_answers(web, history, 200, 100)
        stop(web)
        hold(stored(state / "state.db"), history)
    counts = history.statuses()
    promise(
        promise="R-13 read-only",
        asked="refused cleanly, reads go on, 0 acknowledged events lost, serves again once mended",
        done=f"{times} times read-only under {MACHINES} reporting machines, then started before the disk was mended",
        found=f"{counts[200]} acknowledged, 0 lost; {counts[503]} times 503; 0 other errors",
    )


def mend(state: Path, image: Path, stack: ExitStack) -> None:
    """Check the file system and mount it again, read-only."""
    command("umount", str(state))
    subprocess.run(("e2fsck", "-f", "-p", str(image)), check=False, capture_output=True)  # 1: it was mended
    command("mount", "-t", "ext4", "-o", "ro", stack.enter_context(attached(image)), str(state))


def starts_once_it_can_write(web: web_bench.Appliance, state: Path) -> None:
    """Start the appliance, see it wait and say why, then make its disk writable."""
    web.log.write_text("")
    start_again(web)
    web_bench.wait_for(lambda: "web cannot start" in web.text(), web.text)
    assert "state/state.db: cannot open: Read-only file system" in web.text()
    assert "Traceback" not in web.text()
    assert not web.operator.is_ready()
    command("mount", "-o", "remount,rw", str(state))
    web.await_ready()
