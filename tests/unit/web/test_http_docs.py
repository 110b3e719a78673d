"""docs/http.md against the application: every route is in it, every sample is what it says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1
from tests.unit.web.joining import JoiningRack
from web.bodies import Acceptance, Begin, Found, Report, typed
from web.claim import Claiming
from web.gpu_drivers import Order
from web.gpu_reports import Told
from web.kubelet import Confirmation
from web.pxe_events import Sightings

TEXT = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
SAMPLES = re.findall(r"<!-- json(?:: (\w+))? -->\n```json\n(.*?)```", TEXT, re.DOTALL)
KINDS: dict[str, Any] = {
    "Acceptance": Acceptance,
    "Found": Found,
    "Begin": Begin,
    "Report": Report,
    "Sightings": Sightings,
    "Claiming": Claiming,
    "Confirmation": Confirmation,
    "Told": Told,
    "Order": Order,
}


def test_every_route_is_documented_and_no_other(rack: Rack) -> None:
    told = {path.partition("?")[0] for path in re.findall(r"`(?:GET|POST) (/[^`]*)`", TEXT)}
    there = {rule.rule for rule in rack.app.url_map.iter_rules()}

    assert told - {"/artifacts/sha256/<64 hex digits>"} == there


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_every_sample_parses_as_what_it_is(kind: str, sample: str) -> None:
    value = json.loads(sample)

    if kind:
        typed(KINDS[kind], value)


def test_every_block_of_json_is_marked() -> None:
    assert len(SAMPLES) == TEXT.count("```json")
    assert {kind for kind, _ in SAMPLES} >= set(KINDS)


def test_the_sample_machine_and_event_have_the_keys_of_real_ones(rack: Rack) -> None:
    rack.begin()
    samples = {frozenset(json.loads(sample)) for _, sample in SAMPLES if sample.startswith("{")}
    listed = (rack.operator("GET", "/v1/machines").json or {})["machines"][0]
    event = (rack.operator("GET", "/v1/events").json or {})["events"][0]
    granted = rack.begin(W1).json
    joining = JoiningRack()
    joining.install()
    claimed = joining.claim().json

    assert frozenset(claimed or {}) in samples
    assert frozenset(listed) in samples
    assert frozenset(event) in samples
    assert frozenset(granted or {}) in samples
