"""One row per supported minor, and a version without a row is refused."""

import ast

import pytest

from bootstrap.errors import RenderError
from bootstrap.kubernetes.releases import RELEASES, minor_of, release_of, supported
from tests import samples

ROOM = samples.ROOT / "bootstrap/kubernetes"


def test_these_minors_are_supported() -> None:
    assert list(RELEASES) == [20, *range(32, 38)]
    assert supported() == "v1.20, v1.32 to v1.37"
    assert all(row.minor == minor for minor, row in RELEASES.items())


@pytest.mark.parametrize(
    ("version", "name"), [("v1.20.2", "v1.20"), ("v1.36.4", "v1.36"), ("v1.37.0-rc.1", "v1.37")]
)
def test_a_version_has_the_row_of_its_minor(version: str, name: str) -> None:
    assert release_of(version).name == name


@pytest.mark.parametrize("version", ["v1.19.16", "v1.21.0", "v1.31.9", "v1.38.0", "1.36.4", "v1.36", ""])
def test_a_version_without_a_row_is_refused(version: str) -> None:
    with pytest.raises(RenderError, match=r"not supported; there are v1\.20, v1\.32 to v1\.37"):
        release_of(version)


def test_a_minor_is_read_from_a_version_only() -> None:
    assert minor_of("v1.36.4") == 36
    with pytest.raises(ValueError, match="no Kubernetes version"):
        minor_of("v2.0.0")


def test_old_ports_without_tls_are_closed_where_they_exist() -> None:
    old = RELEASES[20]
    assert "--insecure-port=0" in old.api_server_flags
    assert old.controller_flags == old.scheduler_flags == ("--port=0",)
    assert not any(
        "port=0" in flag
        for minor, row in RELEASES.items()
        if minor > 20
        for flag in (*row.api_server_flags, *row.controller_flags, *row.scheduler_flags)
    )


def test_a_member_that_was_cut_off_deposes_no_leader_when_it_comes_back() -> None:
    """Without a vote before the vote, healed partitions held up writes for one to seven seconds."""
    assert all(("--pre-vote=true" in row.etcd_flags) == (row.etcd == "3.4") for row in RELEASES.values())


def test_requests_name_what_the_signer_of_their_minor_wants() -> None:
    assert "key encipherment" in RELEASES[20].csr_usages
    assert all("key encipherment" not in row.csr_usages for minor, row in RELEASES.items() if minor >= 27)
    assert [row.has_expiration for row in RELEASES.values()] == [minor >= 22 for minor in RELEASES]


def test_no_other_module_of_the_room_compares_minors() -> None:
    for path in sorted(ROOM.glob("*.py")):
        if path.name == "releases.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
            assert not (isinstance(node, ast.Compare) and names & {"minor", "version"}), path.name
