"""Each process of the appliance is killed, hung and made to fail while a rack of machines boots and installs.

One appliance, one history: whatever happens in any of these tests, no checker may find anything in the whole of it.
"""

import base64
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootstrap.failpoints import VARIABLE
from tests.history import History
from tests.system.fleet import fleet
from tests.system.fleet_rig import BACK_SECONDS, FORGOTTEN_SOCKETS, Observer, Rig, shuffled, victim
from tests.system.fleet_site import ROLES, Site, site, wait_for
from tests.tier import SOAK, Promise, dice, rounds, seed

pytestmark = [pytest.mark.system, pytest.mark.promise, FORGOTTEN_SOCKETS]

MACHINES = 100
FEW = 20
FINISH_SECONDS = 360.0
ACTIONS = ("kill", "raise", "sleep:2")
# Every how many passes a name fails once more: often enough to happen with few machines, seldom enough that a rack
# gets on in between. A kill comes last, or the others in that process would never have their turn.
EVERY = {
    "store.commit.before": {"kill": 37, "raise": 7, "sleep:2": 19},
    "store.commit.after": {"kill": 41, "raise": 11, "sleep:2": 23},
    "ledger.batch.before": {"kill": 39, "raise": 9, "sleep:2": 17},
    "web.answer.before": {"kill": 97, "raise": 29, "sleep:2": 31},
    "pxe.report.before": {"kill": 7, "raise": 3, "sleep:2": 2},
    "pxe.report.after": {"kill": 6, "raise": 2, "sleep:2": 3},
}
AT_START = ("disk.file.before", "disk.file.after", "disk.bundle.before", "disk.bundle.after")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("f")
    history = History()
    with ExitStack() as stack:
        made = stack.enter_context(site(folder, MACHINES, Site))
        made.up()
        observer = stack.enter_context(Observer(made, history))
        stack.callback(history.write, folder / "history.jsonl")
        yield Rig(made, history, observer)


def test_processes_killed_at_random_lose_nothing_and_stop_nobody(rig: Rig, promise: Promise) -> None:
    chance, kills = dice("kills"), rounds(ci=50, soak=200)
    killed: Counter[str] = Counter()
    with fleet(rig.site, rig.history, MACHINES, dice("fleet of the kills")) as rack:
        for role in shuffled(ROLES, chance, kills):
            # Half of the kills meet an appliance at work, the others may meet one that is just starting.
            if chance.random() < 0.5:
                wait_for(rig.site.is_at_work, BACK_SECONDS, lambda: rig.site.log[-4000:])
            pid = victim(rig, role)
            rig.history.saw("kill", {"role": role, "pid": pid})
            os.kill(pid, signal.SIGKILL)
            killed[role] += 1
            time.sleep(chance.uniform(0.1, 1.2))
        rack.finish(FINISH_SECONDS)
        lives = rack.lives
    rig.verdict()

    assert killed.total() == kills
    assert min(killed[role] for role in ROLES) >= kills // len(ROLES)
    promise(
        promise="S-01 kill -9 of every process",
        asked="200 kills under 100 machines: 0 acknowledged events lost, 0 illegal transitions, all finish",
        done=f"{kills} kills of {len(ROLES)} processes while {MACHINES} machines installed {lives} times",
        found=f"0 of {rig.acknowledged()} acknowledged events lost, 0 illegal transitions, 0 duplicate addresses, "
        f"all finished ({len(rig.history.calls)} requests, one order explains the answers)",
        seed=seed(),
    )


def test_processes_that_hang_delay_machines_and_stop_nobody(rig: Rig, promise: Promise) -> None:
    seconds, hangs = rounds(ci=3, soak=25), 0
    with fleet(rig.site, rig.history, MACHINES, dice("fleet of the hangs")) as rack:
        for role in shuffled(ROLES, dice("hangs"), len(ROLES)):
            pid = victim(rig, role)
            rig.history.saw("hang", {"role": role, "pid": pid})
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)
            hangs += 1
            time.sleep(1)
        rack.finish(FINISH_SECONDS)
        lives = rack.lives
    rig.verdict()

    promise(
        promise="S-01 hangs",
        asked="each process stopped for seconds and continued: all machines finish",
        done=f"{hangs} processes stopped for {seconds} s each, {MACHINES} machines",
        found=f"all finished ({lives} installs), nothing lost",
        seed=seed(),
    )


TURNS = (
    ("kill", "raise", "sleep:2", "raise", "kill", "raise"),
    ("raise", "kill", "raise", "sleep:2", "raise", "kill"),
    ("sleep:2", "sleep:2", "kill", "raise", "sleep:2", "sleep:2"),
    ("raise", "raise", "sleep:2", "kill", "raise", "raise"),
)
"""What the names of EVERY may do together: all pairs occur, and no process has two reasons to be killed."""


def cases() -> list[dict[str, str]]:
    """Return what to arm, run by run: in CI every name at once, in two of the TURNS; in a soak each pair alone."""
    alone = [{name: action} for name in EVERY for action in ACTIONS]
    turned = [dict(zip(EVERY, turn, strict=True)) for turn in TURNS]
    return alone if SOAK else dice("turns").sample(turned, 2)


def test_every_failpoint_of_the_appliance_fails_and_nothing_is_lost(rig: Rig, promise: Promise) -> None:
    tried: set[tuple[str, str]] = set()
    runs, pairs = cases(), len(EVERY) * len(ACTIONS)
    for number, case in enumerate(runs):
        run_with(rig, case, number)
        tried.update(case.items())
    os.kill(victim(rig, "serve"), signal.SIGKILL)
    rig.site.up()
    rig.verdict()

    assert {name for name, _ in tried} == set(EVERY)
    assert len(tried) == pairs or not SOAK
    promise(
        promise="S-01 failpoints",
        asked="each failpoint of the appliance x kill, EIO, 2 s of sleep: no checker finds anything, all finish",
        done=f"{len(tried)} of {pairs} pairs, in {len(runs)} runs of {FEW} machines",
        found=f"0 violations in {len(rig.history.calls)} requests, all finished",
        seed=seed(),
    )


def run_with(rig: Rig, case: dict[str, str], number: int) -> None:
    """Start the appliance anew with failpoints, and let a few machines live until each has failed."""
    setting = ",".join(f"{name}={action}%{EVERY[name][action]}" for name, action in case.items())
    os.kill(victim(rig, "serve"), signal.SIGKILL)
    start = len(rig.site.log)
    rig.site.up(**{VARIABLE: setting})
    with fleet(rig.site, rig.history, FEW, dice(f"failpoints {number}")) as rack:
        wait_for(
            lambda: not silent(case, rig.site.log[start:]),
            FINISH_SECONDS,
            lambda: f"nobody passed {silent(case, rig.site.log[start:])}",
        )
        rack.finish(FINISH_SECONDS)


def silent(case: dict[str, str], log: str) -> list[str]:
    """Return the failpoints that did nothing: one that nobody passed proves nothing."""
    return [name for name, action in case.items() if f"failpoint {name}: {action}\n" not in log]


def test_an_up_cut_at_a_failpoint_is_made_good_by_the_next(rig: Rig) -> None:
    """The start that is killed or meets EIO says so, leaves nothing half, and the next `up` works."""
    pairs = [(name, action) for name in AT_START for action in ("kill", "raise")]
    for name, action in dice("up").sample(pairs, rounds(ci=1, soak=len(pairs))):
        change(rig.site)
        cut = rig.site.run("up", "--no-wait", **{VARIABLE: f"{name}={action}@1"})
        assert cut.returncode != 0, (name, action, cut.stderr)
        assert f"failpoint {name}: {action}\n" in cut.stderr
        rig.site.up()
        assert rig.site.is_ready()
    rig.verdict()


def change(where: Site) -> None:
    """Change the configuration in something that every document of a machine shows, but no decision."""
    config = where.folder / "c.yaml"
    text = config.read_text()
    line = f"# {time.monotonic_ns()}\nssh: {{authorizedKeys: ['ssh-ed25519 {key()} someone']}}\n"
    config.write_text(text.partition("# ")[0] + line)


def key() -> str:
    body = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + random.randbytes(32)
    return base64.b64encode(body).decode()


def test_nothing_outlives_a_killed_supervisor_and_up_works_again(rig: Rig) -> None:
    for _ in range(rounds(ci=1, soak=5)):
        os.kill(victim(rig, "serve"), signal.SIGKILL)
        wait_for(lambda: not rig.site.pids(), BACK_SECONDS, lambda: f"left: {rig.site.pids()}")
        rig.site.up()
        assert rig.site.is_ready()
    rig.verdict()


def test_readyz_says_that_pxe_is_away(rig: Rig) -> None:
    os.kill(victim(rig, "pxe"), signal.SIGKILL)
    told: set[str] = set()

    def has_told() -> bool:
        answer = rig.site.ask("GET", "/readyz")
        told.add(answer.body.decode() if answer.status == 503 else "")
        return any("pxe does not serve" in text for text in told)

    wait_for(has_told, BACK_SECONDS, lambda: f"it said {told}")
    wait_for(rig.site.is_ready, BACK_SECONDS, lambda: rig.site.log[-4000:])


def test_nothing_is_left_when_all_is_down(rig: Rig) -> None:
    rig.site.down()
    assert rig.site.pids() == ()
    assert list(Path("/run/firstlight").glob("fleet-*")) == []
