"""What is pure in benchmarks/: turns, medians, verdicts, the table and the page."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks.comparison import Benchmark, Figure, Ratio, Result, Side, interleave, reaches
from benchmarks.racks import config_of, mac_of
from benchmarks.report import BEGIN, END, put, report
from benchmarks.table import missed, number, table
from bootstrap.config import load

A, B = Figure("a", "x"), Figure("b", "x")
RATIO = Ratio(name="a against b", top=A, bottom=B, asked="<= 1.5", unit="ms", why="because")


def rounds(*pairs: tuple[float, float]) -> list[Mapping[str, Mapping[str, float]]]:
    return [{"a": {"x": top}, "b": {"x": bottom}} for top, bottom in pairs]


def test_sides_run_in_turns_and_warm_ups_are_thrown_away() -> None:
    calls: list[str] = []
    numbers = itertools.count()

    def side(name: str) -> Side:
        return lambda: calls.append(name) or {"x": next(numbers)}  # type: ignore[func-returns-value]

    done = interleave({"a": side("a"), "b": side("b")}, rounds=3, tell=lambda _: None)

    assert calls == ["a", "b"] * 4
    assert [one["a"]["x"] for one in done] == [2, 4, 6]


def test_the_median_is_that_of_ratios_not_the_ratio_of_medians() -> None:
    # Other work made the machine slow in some rounds: it slowed both sides, and the ratio says so.
    result = Result(RATIO, rounds((1, 1), (10, 10), (3, 2)))

    assert result.median == 1
    assert result.median_of(A) == 3


def test_one_wild_round_changes_no_verdict() -> None:
    assert Result(RATIO, rounds((1, 1), (1, 1), (100, 1))).holds


@pytest.mark.parametrize(
    ("value", "goal", "verdict"),
    [
        (1.1, "<= 1.1", True),
        (1.11, "<= 1.1", False),
        (0.5, ">= 0.5", True),
        (0.49, ">= 0.5", False),
        (0, "== 0", True),
        (1, "== 0", False),
    ],
)
def test_a_goal_is_reached_or_not(value: float, goal: str, *, verdict: bool) -> None:
    assert reaches(value, goal) is verdict


@pytest.mark.parametrize("goal", ["< 1", "1.1", "<= ", "<= -1"])
def test_a_goal_that_cannot_be_read_is_refused_at_once(goal: str) -> None:
    with pytest.raises(ValueError, match="no goal"):
        Ratio(name="x", top=A, asked=goal)


def test_a_side_that_measured_nothing_is_no_success() -> None:
    with pytest.raises(ZeroDivisionError):
        _ = Result(RATIO, rounds((1, 0))).holds


def test_the_table_shows_figures_ratio_spread_and_verdict() -> None:
    lines = table([Result(RATIO, rounds((2, 1), (4, 2), (9, 3)))]).splitlines()

    assert lines[2] == "| a against b | a: 4 ms | b: 2 ms | 2 (2 to 3) | <= 1.5 | **NO** |"


def test_a_row_without_a_goal_is_only_shown() -> None:
    result = Result(Ratio(name="a", top=A), rounds((1234.5, 1)))

    assert "shown only" in table([result])
    assert missed([result]) == []


def test_a_missed_goal_is_named() -> None:
    assert missed([Result(RATIO, rounds((2, 1)))]) == ["a against b: 2, asked <= 1.5"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0512, "0.0512"), (12.34, "12.3"), (45678.9, "45,679")]
)
def test_figures_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_the_page_keeps_the_words_of_people() -> None:
    page = f"# Speed\n\nwords\n\n{BEGIN}\nold\n{END}\n\nmore words\n"

    assert put(page, "new\n") == f"# Speed\n\nwords\n\n{BEGIN}\n\nnew\n\n{END}\n\nmore words\n"
    with pytest.raises(ValueError, match="lacks the lines"):
        put("a page without marks", "new")


@contextmanager
def sides(folder: Path) -> Iterator[Mapping[str, Side]]:
    (folder / "left").write_text("behind")
    yield {"a": lambda: {"x": 4.0}, "b": lambda: {"x": 2.0}}


BENCH = Benchmark(name="test", why="To see it run.", ratios=(RATIO,), prepare=sides, rounds=6)


def test_a_benchmark_runs_in_a_folder_that_is_gone_afterwards(tmp_path: Path) -> None:
    [result] = program.run(BENCH, 5, tmp_path)

    assert (result.median, result.holds, len(result.rounds)) == (2, False, 6)
    assert list(tmp_path.iterdir()) == []
    text = report([(BENCH, [result])], heading="today")
    assert text.startswith("today.\n")
    assert "### test" in text
    assert "- a against b: because" in text


@contextmanager
def broken(folder: Path) -> Iterator[Mapping[str, Side]]:
    (folder / "left").write_text("behind")
    raise KeyError(folder)
    yield {}


def test_a_benchmark_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        program.run(Benchmark(name="x", why="", ratios=(), prepare=broken), 5, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_every_benchmark_says_what_is_asked_and_why() -> None:
    known = program.everything()

    assert {each.name for each in known} >= {"boots", "downloads", "events", "pki", "rendering", "startup"}
    for each in known:
        assert each.why
        assert any(ratio.asked for ratio in each.ratios)
        assert all(ratio.why for ratio in each.ratios if ratio.asked and ratio.bottom)


@pytest.mark.parametrize("rack", [10, 1000])
def test_a_rack_is_a_configuration_without_problems(tmp_path: Path, rack: int) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(config_of(rack))

    machines = load([file]).machines

    assert len(machines) == rack
    assert machines[-1].mac == mac_of(rack - 1)


def test_one_that_cannot_be_measured_is_named_and_the_others_are_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Benchmark(name="good", why="Good.", ratios=(RATIO,), prepare=sides)
    bad = Benchmark(name="bad", why="Bad.", ratios=(), prepare=broken)
    monkeypatch.setattr(program, "everything", lambda: [bad, good])
    monkeypatch.setattr("sys.argv", ["bench", "--folder", str(tmp_path)])

    assert program.main() == 1

    said = capsys.readouterr()
    assert "missed: bad: it could not be measured" in said.err
    assert "### good" in said.out


def test_an_interrupt_keeps_the_tables_that_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def interrupted(folder: Path) -> Iterator[Mapping[str, Side]]:
        raise KeyboardInterrupt(folder)
        yield {}

    good = Benchmark(name="good", why="Good.", ratios=(RATIO,), prepare=sides)
    cut = Benchmark(name="cut", why="Cut.", ratios=(), prepare=interrupted)
    monkeypatch.setattr(program, "everything", lambda: [good, cut, good])
    monkeypatch.setattr("sys.argv", ["bench", "--folder", str(tmp_path)])

    assert program.main() == 1

    said = capsys.readouterr()
    assert "missed: cut: it was interrupted" in said.err
    assert said.out.count("### good") == 1
