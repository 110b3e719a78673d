"""docs/explain.md: its table is the table of rules."""

import re
from pathlib import Path

from bootstrap.explain.breaker import MOST_SAME, TRY_AGAIN
from bootstrap.explain.rules import NOT_SWITCHED_ON, NOTHING, RULES, UNDER_WAY
from bootstrap.records.ledger import KEPT_EVENTS
from web.accesslog import KEPT, KEPT_OF_OTHERS
from web.limits import SIGHTING_BURST, SIGHTING_RATE

TEXT = (Path(__file__).parents[3] / "docs" / "explain.md").read_text()


def filled(text: str) -> str:
    return re.sub(r"\{\w+\}", "...", text)


def test_the_table_has_every_rule_in_its_order() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \| (.*) \|$", TEXT, re.MULTILINE)

    assert rows == [(rule.name, filled(rule.cause), filled(rule.remedy)) for rule in RULES]
    assert [] == [rule.name for rule in (NOTHING, NOT_SWITCHED_ON, UNDER_WAY) if f"`{rule.name}`" not in TEXT]


def test_the_numbers_are_those_of_the_code() -> None:
    assert 3 == MOST_SAME
    assert f"every {TRY_AGAIN.seconds // 60} minutes" in TEXT
    assert f"the newest {KEPT_EVENTS} events" in TEXT
    assert f"the newest {KEPT} requests" in TEXT
    assert f"{KEPT_EVENTS} and {KEPT_OF_OTHERS}." in TEXT
    assert f"{SIGHTING_BURST:.0f} at once, then {SIGHTING_RATE:.0f} a second" in TEXT
