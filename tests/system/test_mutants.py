"""The tests are tested: each mutant is noticed, and without it the same tests pass."""

import pytest

from tests.mutants import MUTANTS, copied, is_killed, run
from tests.tier import SOAK, Promise

pytestmark = [pytest.mark.system, pytest.mark.promise]


def test_each_mutant_is_noticed(promise: Promise) -> None:
    lived = [mutant.name for mutant in MUTANTS if not is_killed(mutant)]

    assert [] == lived
    promise(
        promise="S-17 mutants",
        asked="each noticed, at least 8",
        done=f"{len(MUTANTS)} mutants",
        found=f"{len(MUTANTS) - len(lived)} noticed",
    )


def test_without_a_mutant_the_same_tests_pass() -> None:
    """Else a mutant would be noticed by a test that always fails.

    Those of the system tier take minutes: CI runs them anyway, and here they run in a soak.
    """
    fast = {word for mutant in MUTANTS if "-m" not in mutant.tests for word in mutant.tests}
    with copied() as copy:
        assert 0 == run(copy, tuple(sorted(fast)))[0]
        for words in sorted({mutant.tests for mutant in MUTANTS if SOAK and "-m" in mutant.tests}):
            code, said = run(copy, words)
            assert 0 == code, said
