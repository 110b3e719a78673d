"""A Secret shows itself to nobody."""

import copy
import json
import logging
import pickle
from collections.abc import Callable

import jinja2
import pytest

from certs.keyring import Keyring, PublicKeyring
from certs.secret import Secret

CONTENT = b"canary-3f9a"


def _jinja(source: str, *, autoescape: bool = False) -> Callable[[Secret], object]:
    environment = jinja2.Environment(autoescape=autoescape)
    return lambda secret: environment.from_string(source).render(secret=secret)


WAYS: dict[str, Callable[[Secret], object]] = {
    "str": str,
    "f-string": lambda secret: f"{secret}",
    "f-string with width": lambda secret: f"{secret:>20}",
    "percent": lambda secret: "%s" % secret,  # noqa: UP031  # the way under test
    "format": "{}".format,
    "bytes": bytes,
    "list": list,
    "join": b"".join,
    "bytes join": lambda secret: b"".join([secret]),  # type: ignore[list-item]
    "plus": lambda secret: b"" + secret,  # type: ignore[operator]
    "memoryview": memoryview,  # type: ignore[dict-item]
    "json": json.dumps,
    "json in a dict": lambda secret: json.dumps({"key": secret}),
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "vars": vars,
    "hash": hash,
    "jinja": _jinja("{{ secret }}"),
    "jinja, escaped": _jinja("{{ secret }}", autoescape=True),
    "jinja string": _jinja("{{ secret|string }}"),
    "jinja tojson": _jinja("{{ secret|tojson }}"),
    "jinja join": _jinja("{{ [secret]|join }}"),
    "jinja tilde": _jinja("{{ 'x' ~ secret }}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_refuses_to_become_text_or_bytes(way: str) -> None:
    with pytest.raises(TypeError) as caught:
        WAYS[way](Secret(CONTENT))

    assert CONTENT.decode() not in str(caught.value)


def test_repr_shows_that_a_secret_was_there() -> None:
    assert repr([Secret(CONTENT)]) == "[<secret>]"
    assert f"{Secret(CONTENT)!r}" == "<secret>"


def test_a_log_line_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("canary", logging.WARNING, "", 0, "key %s", (Secret(CONTENT),), None)

    logging.StreamHandler().handle(record)

    assert CONTENT.decode() not in "".join(capsys.readouterr())


def test_reveal_gives_the_bytes() -> None:
    assert Secret(CONTENT).reveal() == CONTENT


def test_secrets_compare_by_content() -> None:
    assert Secret(CONTENT) == Secret(CONTENT)
    assert Secret(CONTENT) != Secret(b"other")
    assert Secret(CONTENT) != CONTENT


def test_a_secret_never_changes() -> None:
    secret = Secret(CONTENT)
    with pytest.raises(AttributeError):
        secret._content = b"other"


def test_a_secret_is_made_of_bytes_only() -> None:
    with pytest.raises(TypeError):
        Secret("text")  # type: ignore[arg-type]


def test_a_public_keyring_takes_no_secret() -> None:
    # The ignore is itself a test: mypy warns of an unused one, so the types refuse this too.
    with pytest.raises(TypeError):
        PublicKeyring(certificates={"ca": Secret(CONTENT)}, public_keys={})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        PublicKeyring(certificates={}, public_keys={"sa": Secret(CONTENT)})  # type: ignore[dict-item]


def test_a_public_keyring_takes_no_private_pem() -> None:
    with pytest.raises(TypeError, match="ca: only public PEM"):
        PublicKeyring(certificates={"ca": b"-----BEGIN PRIVATE KEY-----\n"}, public_keys={})


def test_a_public_keyring_cannot_be_filled_later() -> None:
    source = {"ca": b"x"}
    keyring = PublicKeyring(certificates=source, public_keys={})
    source["ca"] = b"-----BEGIN PRIVATE KEY-----\n"

    assert keyring.certificates["ca"] == b"x"
    with pytest.raises(TypeError):
        keyring.certificates["ca"] = b"y"  # type: ignore[index]


def test_a_keyring_shows_no_key() -> None:
    keyring = Keyring(public=PublicKeyring({}, {}), keys={"admin": Secret(CONTENT)})

    assert CONTENT.decode() not in repr(keyring)
    with pytest.raises(TypeError):
        pickle.dumps(keyring)
