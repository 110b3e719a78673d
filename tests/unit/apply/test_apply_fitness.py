from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bootstrap.apply.facts import Facts, Space
from bootstrap.apply.fitness import no_room, unfit
from tests.unit.apply.sample_hosts import empty

NOW = datetime.fromtimestamp(1_800_000_000, UTC)
GOOD = empty("m1")


def test_a_debian_host_is_fit() -> None:
    assert unfit(GOOD, NOW) is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(GOOD, arch="aarch64"), "on aarch64 is not supported; use one of: x86_64"),
        (replace(GOOD, arch=""), "unknown hardware"),
        (
            replace(GOOD, os={"ID": "arch", "PRETTY_NAME": "Arch Linux"}),
            "Arch Linux on x86_64 is not supported",
        ),
        (replace(GOOD, os={}), "unknown on x86_64 is not supported; install one of: debian, ubuntu"),
        (replace(GOOD, systemd=241), "has systemd 241, too old; install a release with 247"),
        (replace(GOOD, systemd=0), "has systemd none"),
        (replace(GOOD, clock=GOOD.clock - 7200), "its clock is 120 minutes behind"),
    ],
)
def test_what_a_host_lacks_is_one_line_with_its_remedy(facts: Facts, words: str) -> None:
    error = unfit(facts, NOW)

    assert error is not None
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_clock_that_is_ahead_or_a_little_behind_is_fine() -> None:
    assert unfit(replace(GOOD, clock=GOOD.clock + 7200), NOW) is None
    assert unfit(replace(GOOD, clock=GOOD.clock - 600), NOW) is None


def test_room_is_counted_by_file_system() -> None:
    mib = 1024 * 1024
    apart = {
        "/etc": Space(20 * mib, "1"),
        "/opt": Space(200 * mib, "2"),
        "/var/lib": Space(20 * mib, "1"),
    }
    facts = replace(GOOD, space=apart)

    assert no_room(facts, {"/opt/a": 100 * mib, "/etc/b": mib}) is None
    assert no_room(facts, {"/elsewhere/a": 10**12}) is None
    for sizes in ({"/opt/a": 190 * mib}, {"/etc/a": 3 * mib, "/var/lib/b": 3 * mib}):
        assert "make room there" in str(no_room(facts, sizes))
