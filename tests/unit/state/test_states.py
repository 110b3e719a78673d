"""The graph of D3: whole, reachable, and refusing what it does not hold."""

from itertools import pairwise

import pytest

from bootstrap.states import RULES, IllegalTransition, State, move


def test_every_state_has_a_rule_with_an_owner_and_a_next_step() -> None:
    assert set(RULES) == set(State)
    for rule in RULES.values():
        assert rule.owner in {"operator", "machine", "appliance"}
        assert rule.next_step


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_only_the_edges_of_the_graph_can_be_gone(before: State, after: State) -> None:
    if after in RULES[before].to:
        assert move(before, after) is after
        return
    with pytest.raises(IllegalTransition, match=f"a machine that is {before} cannot become {after}"):
        move(before, after)


def test_the_undisturbed_life_is_possible() -> None:
    life = [
        State.DISCOVERED,
        State.ACCEPTED,
        State.ARMED,
        State.INSTALLING,
        State.INSTALLED,
        State.JOINED,
        State.READY,
        State.GPU_READY,
    ]
    for before, after in pairwise(life):
        assert move(before, after) is after


def test_installing_is_only_entered_from_an_armed_window() -> None:
    doors = {state for state, rule in RULES.items() if State.INSTALLING in rule.to}

    assert doors == {State.ARMED, State.INSTALLING}


def test_no_state_is_a_trap_and_all_can_be_reached() -> None:
    for state in State:
        assert RULES[state].to, state
    reached = {State.DISCOVERED}
    while grown := {after for state in reached for after in RULES[state].to} - reached:
        reached |= grown
    assert reached == set(State)


def test_a_machine_that_must_act_by_itself_has_a_deadline_or_waits_for_power() -> None:
    waiting = {
        state for state, rule in RULES.items() if rule.owner == "machine" and rule.deadline_seconds is None
    }

    assert waiting == {State.ARMED}
