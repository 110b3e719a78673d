"""Unquoted words by the core schema of YAML 1.2."""

import math

import pytest

from bootstrap.config.scalars import resolve


@pytest.mark.parametrize(
    "word",
    [
        "52:54:00:12:34:56",
        "12:34:56:78:90:12",
        "no",
        "yes",
        "on",
        "off",
        "NO",
        "v1.36.4",
        "4593.2.5",
        "1_000",
        "0b11",
        "2001-01-01",
        "=",
        "<<",
        "1.2.3",
        "-",
        "+",
        ".",
        "1e",
        "0x",
        "0o9",
        "nUll",
        "9" * 5000,
    ],
)
def test_these_stay_text(word: str) -> None:
    assert resolve(word) == word


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0644", 644),
        ("0o644", 0o644),
        ("0x1F", 31),
        ("-5", -5),
        ("+7", 7),
        ("1.30", 1.3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("true", True),
        ("TRUE", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("Null", None),
    ],
)
def test_these_are_values(word: str, value: object) -> None:
    assert resolve(word) == value
    assert type(resolve(word)) is type(value)


def test_infinity_and_not_a_number() -> None:
    assert resolve("-.INF") == -math.inf
    assert math.isnan(float(str(resolve(".nan"))))
