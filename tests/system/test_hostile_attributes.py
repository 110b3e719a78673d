"""Promise S-06: ten thousand attributes of machines, none of which becomes a line or a node."""

from collections import Counter
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tier import Promise, rounds, seed
from tests.unit.hostile.attributes import PLACES, Bench, accepted, hostile, introductions, judge_documents

pytestmark = [pytest.mark.system, pytest.mark.promise]


def examine(
    share: float, *strategies: st.SearchStrategy[object], judge: Callable[..., object]
) -> Counter[str]:
    """Have `judge` see this share of all values; return how often it answered what."""
    answers: Counter[str] = Counter()
    count = int(rounds(10_000, 100_000) * share)

    @hypothesis.seed(seed())
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(st.tuples(*strategies))
    def ask(values: tuple[object, ...]) -> None:
        answers[str(judge(*values))] += 1

    ask()
    return answers


def test_ten_thousand_attributes_stay_what_they_are(promise: Promise) -> None:
    bench, places = Bench.make(), st.sampled_from(PLACES)
    asked = examine(0.45, introductions(), judge=lambda said: bench.introduce(*said))
    told = examine(0.2, hostile, st.just("install") | hostile, judge=bench.fail)
    leaves = examine(0.2, places, hostile, judge=judge_documents)
    taken = examine(
        0.15, places, hostile | st.from_regex(r"[A-Za-z0-9.:_-]{1,70}", fullmatch=True), judge=accepted
    )

    done = sum(map(Counter.total, (asked, told, leaves, taken)))
    assert done >= 0.8 * rounds(10_000, 100_000), (asked, told, leaves, taken)
    assert asked["200"] > asked["400"] / 3, asked
    promise(
        promise="S-06 machine attributes",
        asked="10,000 by hypothesis: iPXE keeps its lines, Ignition has the value as a leaf",
        done=f"{done}: {asked.total()} introductions, {told.total()} reasons, {(leaves + taken).total()} documents",
        found=f"introductions answered {asked['200']}, refused {asked['400']}; 0 lines and 0 nodes changed",
        seed=seed(),
    )
