"""What looks at the history of writes through the API finds what is wrong in it."""

from tests.history import OK, History
from tests.system.api_load import lost, silences, unwatched

Write = tuple[str, str, float, int | None]


def history_of(*lines: Write | tuple[str, float]) -> History:
    """Return a history of writes (who, name, when answered, status) and marks (what, when)."""
    clock = [0.0]
    made = History(lambda: clock[0])
    for line in lines:
        if len(line) == 2:
            clock[0] = line[1]
            made.saw(line[0], {"writers": ["a", "b"]})
            continue
        who, name, ended, status = line
        with made.call(who, "write", name=name, value=f"value of {name}") as noted:
            clock[0] = ended
            if status is not None:
                noted.answered(status)
    return made


def test_a_write_that_is_not_there_is_lost_only_if_it_was_acknowledged() -> None:
    history = history_of(("a", "a-1", 1, OK), ("a", "a-2", 2, 500), ("a", "a-3", 3, None))
    history.saw("read back", {"server": "m1", "began": 9, "kept": {"a-1": "value of a-1"}})
    assert lost(history) == []

    history.saw("read back", {"server": "m2", "began": 9, "kept": {"a-2": "value of a-2"}})
    assert [bad.text for bad in lost(history)] == ["a-1 through m2"]


def test_a_write_after_the_read_is_not_expected_in_it() -> None:
    history = history_of(("a", "a-1", 10, OK))
    history.saw("read back", {"server": "m1", "began": 9, "kept": {}})

    assert lost(history) == []


def test_another_value_is_a_lost_write_too() -> None:
    history = history_of(("a", "a-1", 1, OK))
    history.saw("read back", {"server": "m1", "began": 9, "kept": {"a-1": "something else"}})

    assert [bad.text for bad in lost(history)] == ["a-1 through m1"]


def test_a_write_that_no_watch_showed_is_found() -> None:
    history = history_of(("a", "a-1", 1, OK), ("a", "a-2", 2, OK))
    history.saw("watched", {"name": "a-2"})

    assert [bad.text for bad in unwatched(history)] == ["a-1"]


def test_the_longest_silence_of_each_writer_counts_from_the_fault_to_the_calm() -> None:
    history = history_of(
        ("load", 0),
        ("a", "a-1", 1, OK),
        ("b", "b-1", 2, OK),
        ("fault", 10),
        ("a", "a-2", 13, OK),
        ("a", "a-3", 20, 500),
        ("a", "a-4", 24, OK),
        ("b", "b-2", 29, OK),
        ("calm", 30),
        ("a", "a-5", 90, OK),
    )

    assert [(seconds, who) for seconds, _, who in silences(history)] == [(19, "b"), (11, "a")]


def test_a_writer_that_never_comes_back_is_not_forgotten() -> None:
    history = history_of(("load", 0), ("a", "a-1", 1, OK), ("fault", 10), ("calm", 40))

    assert [(seconds, who) for seconds, _, who in silences(history)] == [(30, "a"), (30, "b")]
