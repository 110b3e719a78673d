"""Promise S-06: a damaged store says so, or is right; and what the real appliance says of one."""

from collections import Counter
from pathlib import Path

import pytest

from tests.system.web_bench import Appliance, appliance, end, start, wait_for
from tests.tier import Promise, dice, rounds, seed
from tests.unit.hostile.stores import Original, try_damaged

pytestmark = [pytest.mark.system, pytest.mark.promise]


def test_damaged_stores_say_so_or_are_right(tmp_path: Path, promise: Promise) -> None:
    original, random = Original(tmp_path), dice("stores")
    count = rounds(500, 20_000)
    done = Counter(try_damaged(tmp_path, original, random) for _ in range(count))

    assert done["refused"] > count / 3, done
    promise(
        promise="S-06 store files",
        asked="damage to state.db or its log: refused with path and remedy, or right; never another value",
        done=f"{count}: bits, pages, nonsense, cuts",
        found=f"{done['refused']} refused, {done['right']} right, {done['cut']} as after a power cut, 0 wrong",
        seed=seed(),
    )


def test_an_appliance_with_a_damaged_store_names_it_and_serves_no_machine(tmp_path: Path) -> None:
    with appliance(tmp_path) as web:
        database = web.work / "state/state.db"
        for _ in range(5):  # so that what is hit is not the last commit, which a power cut may tear as well
            web.operator.act("w2", "arm")
        end(web.process)
        log = database.with_name("state.db-wal")
        damaged = max(database, log, key=lambda path: path.stat().st_size)
        content = damaged.read_bytes()
        place = content.index(b'"mac":"52:54:00:aa:00:01"')
        damaged.write_bytes(content[:place] + b"!" + content[place + 1 :])
        web.process = start(web.work, web.cache, web.log)
        wait_for(lambda: f"{database.name}: the file is damaged" in web.text(), web.text)

        assert not web.operator.is_ready()
        wait_for(lambda: _status(web) != 0, web.text)  # the front may come after the store was looked at
        assert _status(web) == 503
        assert "Traceback" not in web.text()


def _status(web: Appliance) -> int:
    """Return what the first machine is answered with, 0 while nobody listens."""
    try:
        return web.plain("GET", "/ipxe?mac=52:54:00:aa:00:01").status
    except ConnectionRefusedError:
        return 0
