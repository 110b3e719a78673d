"""The system tests' loader for arm64 comes from the mirror that this computer's apt uses."""

import pytest

from tests.system.arm64_loader import source_of

TARGETS = """\
bookworm-security http://mirror.example.net/debian-security/
bookworm http://mirror.example.net/debian/
bookworm-updates http://mirror.example.net/debian/
bookworm http://second.example.net/debian/
"""


def test_a_computer_that_reaches_its_own_mirror_alone_gets_the_loader_from_there() -> None:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

    assert source_of(TARGETS, "bookworm") == (
        f"deb [signed-by={keyring}] http://mirror.example.net/debian/ trixie main\n"
    )


def test_a_computer_without_a_source_is_told_to_write_one() -> None:
    with pytest.raises(AssertionError, match="apt has no source of trixie"):
        source_of(TARGETS, "trixie")
