"""Texts and plugins: found by name, refused with a reason."""

import types
from ipaddress import IPv4Address

import pytest

from bootstrap import families, rooms, templates
from bootstrap.errors import RenderError, UnknownChoice
from bootstrap.families import OSFamily
from certs.secret import Secret

TEMPLATE = "systemd/10-firstlight.network.j2"


def test_a_missing_text_is_named() -> None:
    with pytest.raises(RenderError, match=r"configs/systemd/nothing\.conf"):
        templates.read("systemd/nothing.conf")
    with pytest.raises(RenderError, match=r"configs/systemd/nothing\.j2"):
        templates.render("systemd/nothing.j2")


def test_an_undefined_name_is_an_error_and_not_an_empty_text() -> None:
    with pytest.raises(RenderError, match="'mac' is undefined"):
        templates.render(TEMPLATE)


@pytest.mark.parametrize("value", [Secret(b"x"), b"x", None, ["a"], 1.5, object()])
def test_only_plain_values_are_printed(value: object) -> None:
    with pytest.raises(RenderError, match=type(value).__name__):
        templates.render(TEMPLATE, mac=value)


@pytest.mark.parametrize("value", ["a\nDHCP=no", "a\r", "\x1b[0m", "a\0"])
def test_a_value_cannot_start_a_line_of_its_own(value: str) -> None:
    with pytest.raises(RenderError, match="control character"):
        templates.render(TEMPLATE, mac=value)


@pytest.mark.parametrize(("value", "text"), [("a", "a"), (7, "7"), (IPv4Address("10.0.0.1"), "10.0.0.1")])
def test_plain_values_are_printed_as_they_are(value: object, text: str) -> None:
    assert f"PermanentMACAddress={text}\n" in templates.render(TEMPLATE, mac=value)


def test_the_families_are_the_files_of_their_room() -> None:
    assert rooms.names(families) == ("debian", "fedora-coreos", "flatcar")


def test_a_family_is_loaded_by_its_config_value() -> None:
    assert rooms.load(families, "fedora-coreos", OSFamily, where="x").title == "Fedora CoreOS"


@pytest.mark.parametrize("name", ["flatcra", "fedora_coreos", "", "../render", "__init__"])
def test_an_unknown_family_is_named_with_the_choices(name: str) -> None:
    with pytest.raises(UnknownChoice, match=r"pools\.a\.os\.family: .* is not one of: debian, fedora-coreos"):
        rooms.load(families, name, OSFamily, where="pools.a.os.family")


def test_a_file_without_the_right_plugin_is_our_bug() -> None:
    with pytest.raises(RenderError, match="PLUGIN is not an Exception"):
        rooms.load(families, "debian", Exception, where="x")
    assert isinstance(families, types.ModuleType)
