"""What an unquoted YAML word stands for, by the core schema of YAML 1.2 (section 10.3.2).

YAML 1.1, which PyYAML follows, reads `52:54:00:12:34:56` as a number to base 60, `no` as false and `0644` as
octal; under these rules they stay what they look like.
"""

import re

_FIXED: dict[str, bool | float | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_PREFIXED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
LONGEST_NUMBER = 40
"""Characters; a longer row of digits is kept as text (Python refuses to convert rows of thousands)."""


def resolve(word: str) -> str | int | float | bool | None:
    """Return what the unquoted `word` stands for: itself, unless it is null, a boolean or a number."""
    if word in _FIXED:
        return _FIXED[word]
    if len(word) > LONGEST_NUMBER or word[0] not in "+-.0123456789":
        return word
    if _INTEGER.fullmatch(word):
        return int(word)
    if _PREFIXED.fullmatch(word):
        return int(word, 0)
    return float(word) if _FLOAT.fullmatch(word) else word
