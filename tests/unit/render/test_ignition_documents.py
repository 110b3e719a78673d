"""Ignition built as data: modes, content, order, refusals."""

import json
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap.errors import RenderError
from bootstrap.render import ignition
from certs.secret import Secret


@pytest.mark.parametrize("mode", [644, 600, 755, 640, 700, 440, 400, 444, 0o4755, 0o777, 0, -1])
def test_a_mode_that_is_no_usual_octal_mode_is_refused(mode: int) -> None:
    with pytest.raises(RenderError, match="write 0o644"):
        ignition.file("/etc/x", "", mode=mode)


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755, 0o440, 0o400])
def test_a_usual_mode_is_written_as_the_number_that_ignition_wants(mode: int) -> None:
    assert ignition.file("/etc/x", "", mode=mode)["mode"] == mode


@given(st.text())
def test_any_text_survives_the_data_url(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    url = ignition.data_url(content)

    assert unquote_to_bytes(url.removeprefix("data:,")) == content
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url


def test_a_secret_is_no_content() -> None:
    with pytest.raises(RenderError, match="Secret"):
        ignition.file("/etc/x", Secret(b"hunter2"))  # type: ignore[arg-type]


def test_a_secret_is_no_json() -> None:
    with pytest.raises(RenderError, match="JSON"):
        ignition.json_bytes({"key": Secret(b"hunter2")})


def test_the_order_of_the_parts_does_not_matter() -> None:
    files = [ignition.file("/b", "2"), ignition.file("/a", "1")]
    units = [ignition.masked("z.target"), ignition.unit("a.service", "", enabled=True)]
    users = [ignition.user("root", ["k2", "k1"]), ignition.user("core", ["k1"], groups=["sudo", "adm"])]

    document = ignition.document(files=files, units=units, users=users)

    assert document == ignition.document(files=files[::-1], units=units[::-1], users=users[::-1])
    assert [node["path"] for node in json.loads(document)["storage"]["files"]] == ["/a", "/b"]


def test_a_document_says_its_version_and_leaves_out_what_it_has_not() -> None:
    document = json.loads(ignition.document(files=[]))

    assert document == {"ignition": {"version": "3.3.0"}, "storage": {"files": []}}


@pytest.mark.parametrize("part", ["files", "units", "users"])
def test_two_of_the_same_name_are_refused(part: str) -> None:
    twice = {
        "files": [ignition.file("/a", "1"), ignition.file("/a", "2")],
        "units": [ignition.masked("a.target"), ignition.masked("a.target")],
        "users": [ignition.user("core", []), ignition.user("core", [])],
    }

    given = {name: nodes if name == part else [] for name, nodes in twice.items()}

    with pytest.raises(RenderError, match="twice"):
        ignition.document(files=given["files"], units=given["units"], users=given["users"])
