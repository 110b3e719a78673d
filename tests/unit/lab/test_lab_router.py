"""The word that there is no IPv6 router, byte by byte; tests/system/test_lab_real.py has tcpdump read it."""

import pytest

from bootstrap.lab import router

BRIDGE = bytes.fromhex("02aabbccddee")
CARD = bytes.fromhex("525400770001")
# iPXE's own router solicitation, as it left a lab machine.
SOLICITATION = bytes.fromhex(
    """
    333300000002 525400770001 86dd
    600000000010 3aff fe80000000000000505400fffe770001 ff020000000000000000000000000002
    8500 0000 00000000 0101 525400770001
    """
)
ANSWER = bytes.fromhex(
    """
    525400770001 02aabbccddee 86dd
    600000000010 3aff fe8000000000000000aabbfffeccddee fe80000000000000505400fffe770001
    8600 9381 00 00 0000 00000000 00000000
    """
)


def test_a_solicitation_is_answered_with_no_router_and_no_prefix() -> None:
    assert router.answer(SOLICITATION, BRIDGE) == ANSWER


def test_who_has_no_address_yet_is_answered_as_all_nodes_are() -> None:
    nobody = SOLICITATION[:22] + bytes(16) + SOLICITATION[38:]
    said = router.answer(nobody, BRIDGE)

    assert said is not None
    assert bytes.fromhex("333300000001") == said[:6]
    assert bytes.fromhex("ff020000000000000000000000000001") == said[38:54]


def test_the_checksum_of_the_answer_holds() -> None:
    """The sum over the pseudo header and the whole message is 0 (RFC 1071)."""
    said = router.answer(SOLICITATION, BRIDGE)
    assert said is not None
    header, message = said[14:54], said[54:]
    assert 0 == router.checksum(header[8:40] + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message)


@pytest.mark.parametrize("at", range(len(SOLICITATION)))
def test_a_frame_cut_short_is_never_an_error(at: int) -> None:
    said = router.answer(SOLICITATION[:at], BRIDGE)
    assert said in {None, ANSWER}


@pytest.mark.parametrize(
    ("offset", "value"),
    [(12, 0x08), (20, 17), (21, 64), (54, 135)],
    ids=["no IPv6", "UDP", "came through a router", "neighbour solicitation"],
)
def test_anything_else_is_not_answered(offset: int, value: int) -> None:
    frame = bytearray(SOLICITATION)
    frame[offset] = value

    assert router.answer(bytes(frame), BRIDGE) is None
