"""What would change: lines in the order of the work, and a diff that shows no secret."""

from pathlib import Path

import pytest

from bootstrap.disk import read_bundle, write_bundle
from bootstrap.plan import plan
from bootstrap.render import ignition
from bootstrap.render.bundle import File
from tests import samples


def test_nothing_changes_when_nothing_differs() -> None:
    changes = plan(dict(samples.bundle("lab")), samples.bundle("lab"))

    assert not changes
    assert changes.lines == ()
    assert changes.diff == ""


def test_the_first_run_adds_every_document() -> None:
    changes = plan({}, samples.bundle("lab"))

    added = [line for line in changes.lines if line.startswith("add bundle/")]
    assert len(added) == len(samples.bundle("lab"))
    assert "--- /dev/null\n+++ bundle/pxe/dnsmasq.conf\n" in changes.diff


def test_keys_come_first_and_images_last() -> None:
    changes = plan({}, {"a": File(b"1\n")}, keys=["made ca"], images=["build debian 13"])

    assert changes.lines == ("made ca", "add bundle/a (2 bytes)", "build debian 13")


def test_keys_alone_are_a_change() -> None:
    assert plan({}, {}, keys=["re-issued apiserver: near its end"])


def test_a_changed_document_is_shown_line_by_line_and_what_follows_is_said() -> None:
    before = {"pxe/dnsmasq.conf": File(b"port=0\ndhcp-range=a\n")}
    after = {"pxe/dnsmasq.conf": File(b"port=0\ndhcp-range=b\n")}

    changes = plan(before, after)

    assert changes.lines == (
        "change bundle/pxe/dnsmasq.conf",
        "restart pxe: its dnsmasq.conf changes; leases are kept",
    )
    assert changes.diff == (
        "--- bundle/pxe/dnsmasq.conf\n+++ bundle/pxe/dnsmasq.conf\n"
        "@@ -1,2 +1,2 @@\n port=0\n-dhcp-range=a\n+dhcp-range=b\n"
    )


def test_a_document_that_goes_away_is_removed() -> None:
    changes = plan({"machines/w9/live.ign": File(b"{}\n")}, {})

    assert changes.lines == ("remove bundle/machines/w9/live.ign",)
    assert "+++ /dev/null\n" in changes.diff


def test_a_changed_mode_is_a_change_without_a_diff() -> None:
    changes = plan({"a": File(b"1\n", 0o600)}, {"a": File(b"1\n", 0o644)})

    assert changes.lines == ("change the mode of bundle/a: 0600 -> 0644",)
    assert changes.diff == ""


@pytest.mark.parametrize(
    "secret", [b"-----BEGIN PRIVATE KEY-----\ncanary\n", b"-----BEGIN EC PRIVATE KEY-----\ncanary\n"]
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_document_with_a_private_key_is_named_and_never_shown(secret: bytes, side: str) -> None:
    trees = {"before": {"x": File(b"old\n")}, "after": {"x": File(b"new\n")}}
    trees[side] = {"x": File(secret)}

    changes = plan(trees["before"], trees["after"])

    assert changes.lines == ("change bundle/x",)
    assert "canary" not in changes.diff
    assert "not shown" in changes.diff


def test_a_private_key_inside_an_ignition_document_is_not_shown_either() -> None:
    node = ignition.file("/k", "-----BEGIN PRIVATE KEY-----\ncanary\n")
    document = ignition.document(files=[node])

    changes = plan({}, {"machines/w1/installed.ign": File(document)})

    assert "canary" not in changes.diff


def test_a_binary_file_is_named_and_never_shown() -> None:
    assert "binary" in plan({}, {"x": File(b"\xff\xfe\0")}).diff


def test_an_ignition_document_is_unfolded_so_that_its_files_can_be_read() -> None:
    before, after = dict(samples.bundle("lab")), dict(samples.bundle("lab"))
    path = "machines/w1/installed.ign"
    after[path] = File(before[path].content.replace(b"w1%0A", b"w1b%0A"))

    changes = plan(before, after)

    assert "\n-w1\n+w1b\n" in changes.diff
    assert "data:," not in changes.diff
    assert (
        "w1: gets the new document at its next installation; what is installed stays as it is"
        in changes.lines
    )


def test_a_last_line_without_an_end_is_marked() -> None:
    assert plan({}, {"x": File(b"a")}).diff.endswith("+a\n\\ No newline at end of file\n")


def test_the_written_tree_is_the_rendered_one(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder, samples.bundle("lab"))

    assert not plan(read_bundle(folder), samples.bundle("lab"))
