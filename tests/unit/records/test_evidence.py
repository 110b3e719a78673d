"""What tells machines apart, what tells nothing, and who claims the same as whom."""

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.records.evidence import (
    Clash,
    contradiction,
    evidence_of,
    merged,
    serial_of,
    spellings,
    swapped,
    told,
    uuid_of,
    values,
)
from bootstrap.records.identities import Identities
from bootstrap.records.junk import TEXTS, UUIDS
from bootstrap.records.model import Evidence

GOOD = "4c4c4544-0051-3310-8051-b4c04f4a4d32"
MACS = [f"52:54:00:00:00:{n:02x}" for n in range(1, 9)]
uuids = st.uuids().map(str)
evidences = st.builds(
    Evidence, uuid=st.just("") | uuids, serial=st.sampled_from(["", "dell a1b2", "dell c3d4"])
)


@pytest.mark.parametrize(
    "text", [*UUIDS, *map(str.upper, UUIDS), "", "not-a-uuid", "2", GOOD[:-1], f"{GOOD}0"]
)
def test_a_uuid_that_tells_nothing_is_none(text: str) -> None:
    assert uuid_of(text) == ""


@given(st.integers(0, 255))
def test_a_uuid_of_one_byte_is_none(byte: int) -> None:
    assert uuid_of(str(uuid.UUID(bytes=bytes([byte]) * 16))) == ""


@given(uuids)
def test_every_other_uuid_is_evidence_however_it_is_written(text: str) -> None:
    expected = "" if text in UUIDS or len(set(text.replace("-", ""))) == 1 else text
    assert uuid_of(f" {text.upper()} ") in {expected, ""}
    assert uuid_of(GOOD.upper()) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        "To Be Filled By O.E.M.",
        "  Default  string ",
        "0",
        "00000000",
        "........",
        "xxxxxxx",
        "a1",
        "-",
        "\xff",
    ],
)
def test_a_serial_number_that_tells_nothing_is_none(text: str) -> None:
    assert serial_of(text) == ""
    assert evidence_of(uuid="", serial=text, manufacturer="Dell Inc.") == Evidence()


def test_the_table_of_junk_is_written_as_it_is_compared_and_names_its_sources() -> None:
    assert [text for text in TEXTS if text != " ".join(text.lower().split()).strip(" .")] == []
    assert [text for text in UUIDS if str(uuid.UUID(text)) != text] == []
    assert all({*TEXTS.values(), *UUIDS.values()})


def test_serial_numbers_are_compared_per_maker_and_without_their_spelling() -> None:
    one = evidence_of(uuid="", serial=" ABC1234. ", manufacturer="Dell Inc.")

    assert one == evidence_of(uuid="", serial="abc1234", manufacturer="dell  inc")
    assert one.serial != evidence_of(uuid="", serial="ABC1234", manufacturer="HPE").serial


def test_a_maker_that_is_left_out_or_spelt_in_another_alphabet_contradicts_nothing() -> None:
    whole = evidence_of(uuid="", serial="ABC1234", manufacturer="Mak\xe9r")

    for maker in ("Mak\ufffdr", "Makr", ""):
        assert contradiction(whole, evidence_of(uuid="", serial="abc1234", manufacturer=maker)) == ""
    assert contradiction(whole, evidence_of(uuid="", serial="ABC1235", manufacturer="Mak\xe9r"))


@given(evidences, evidences)
def test_what_is_left_out_contradicts_nothing_and_what_is_merged_contradicts_neither_less(
    known: Evidence, said: Evidence
) -> None:
    assert (
        contradiction(known, Evidence())
        == contradiction(Evidence(), said)
        == contradiction(known, known)
        == ""
    )
    if not contradiction(known, said):
        assert contradiction(merged(known, said), said) == ""


@given(uuids)
def test_the_other_order_of_bytes_is_the_same_uuid(text: str) -> None:
    one, other = Evidence(uuid=text), Evidence(uuid=swapped(text))

    assert uuid.UUID(swapped(text)).bytes_le == uuid.UUID(text).bytes
    assert contradiction(one, other) == ""
    assert values(other) <= spellings(*values(one))


def test_a_contradiction_names_both_values() -> None:
    text = contradiction(Evidence(uuid=GOOD), Evidence(uuid=str(uuid.UUID(int=7))))

    assert GOOD in text
    assert str(uuid.UUID(int=7)) in text


steps = st.lists(
    st.tuples(
        st.sampled_from(MACS),
        st.sampled_from(["put", "drop"]),
        st.sampled_from(["", GOOD, swapped(GOOD), str(uuid.UUID(int=7 << 64 | 9))]),
        st.sets(st.sampled_from(MACS), max_size=3),
    ),
    max_size=30,
)


@given(steps)
def test_the_index_is_what_one_finds_by_comparing_all_with_all(
    found: list[tuple[str, str, str, set[str]]],
) -> None:
    index, truth = Identities(), dict[str, tuple[Evidence, set[str]]]()
    for mac, act, text, cards in found:
        if act == "drop":
            index.drop(mac)
            truth.pop(mac, None)
        else:
            index.put(mac, Evidence(uuid=text), cards=cards)
            truth[mac] = (Evidence(uuid=text), cards)

    for mac in MACS:
        evidence, cards = truth.get(mac, (Evidence(), set()))
        mine = values(evidence, cards - {mac})
        wanted = {
            Clash(other, value)
            for other, (theirs, their_cards) in truth.items()
            if other != mac and mac not in their_cards and other not in cards
            for value in mine
            if any(value in spellings(claimed) for claimed in values(theirs, their_cards - {other}))
        }
        assert set(index.clashes(mac)) == wanted


def test_the_order_in_which_machines_come_changes_nothing() -> None:
    for seed in range(20):
        index, dice = Identities(), random.Random(seed)
        for mac in dice.sample(MACS, len(MACS)):
            index.put(mac, Evidence(uuid=GOOD))
        assert {len(index.clashes(mac)) for mac in MACS} == {7}


def test_what_the_operator_ignores_clashes_no_more_and_only_for_that_machine() -> None:
    index = Identities()
    for mac in MACS[:3]:
        index.put(mac, Evidence(uuid=GOOD))
    (value, *_) = values(Evidence(uuid=GOOD))
    index.put(MACS[0], Evidence(uuid=GOOD), ignored=(value,))

    assert index.clashes(MACS[0]) == []
    assert index.clashes(MACS[1]) == [Clash(MACS[2], value)]


def test_two_cards_of_one_machine_are_one_machine_and_a_usb_card_is_none() -> None:
    index = Identities()
    index.put(MACS[0], Evidence(uuid=GOOD))
    index.put(MACS[1], Evidence(uuid=GOOD), cards=(MACS[0], MACS[1]))

    assert index.clashes(MACS[0]) == index.clashes(MACS[1]) == []
    assert index.other_card(MACS[1], lambda mac: mac == MACS[0]) == MACS[0]
    assert index.other_card(MACS[0], lambda mac: mac == MACS[1]) == MACS[1]
    assert index.other_card(MACS[1], lambda _: False) is None


def test_a_long_list_of_clashes_is_cut() -> None:
    clashes = [Clash(mac, f"uuid {GOOD}") for mac in MACS]

    text = told(clashes, {MACS[0]: "w1"})

    assert text.startswith(f"uuid {GOOD} is also that of w1; ")
    assert text.endswith(" and 5 more")
