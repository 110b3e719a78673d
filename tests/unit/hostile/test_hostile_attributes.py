"""What a machine says can become neither a line of a script nor a node of a document (promise S-06)."""

from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.hostile.attributes import (
    PLACES,
    Bench,
    accepted,
    ask,
    hostile,
    introductions,
    judge_documents,
    lines_of,
)
from tests.unit.web.fakes import W2

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def bench() -> Bench:
    return Bench.make()


@few
@given(introductions())
def test_whatever_a_machine_says_its_script_keeps_its_lines(said: tuple[str, bytes]) -> None:
    assert bench().introduce(*said) in {200, 400}


@few
@given(hostile, st.just("install") | hostile)
def test_whatever_an_installer_gives_as_its_reason_the_console_keeps_its_lines(
    message: str, stage: str
) -> None:
    assert bench().fail(message, stage) in {200, 400}


@few
@given(st.sampled_from(PLACES), hostile)
def test_a_value_is_a_leaf_of_the_document_whatever_it_holds(place: str, value: str) -> None:
    judge_documents(place, value)


@few
@given(st.sampled_from(PLACES), hostile | st.from_regex(r"[A-Za-z0-9.:_-]{1,70}", fullmatch=True))
def test_a_value_that_the_configuration_takes_adds_no_line_to_a_file(place: str, value: str) -> None:
    assert accepted(place, value) in {True, False}


def test_a_script_with_one_more_command_is_noticed() -> None:
    script = bench().harmless[W2]
    lines = script.splitlines(keepends=True)

    assert lines_of("".join([*lines[:2], "imgfree\n", *lines[2:]])) != lines_of(script)


def test_a_query_that_is_not_text_is_answered_too() -> None:
    assert ask(bench().rack, b"mac=52:54:00:aa:00:01&serial=\xff\xfe%ff%00")[0] == 200
