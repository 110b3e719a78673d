"""Reads the files in which makers state the sums of their files."""

import re

SHA256 = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]+)[ \t]+\*?(?:\./)?(\S+)")
_TITLE = re.compile(r"#\s*(\w+) HASH")


def first_sum(text: str) -> str | None:
    """Return the SHA-256 sum at the begin of `text`, or None."""
    word = (text.split() or [""])[0]
    return word if SHA256.fullmatch(word) else None


def sum_for(name: str, text: str, digits: int = 64) -> str | None:
    """Return the sum of `digits` that `text` states for the file `name`, one `<sum>  <name>` per line, or None."""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return next((m[1] for m in found if m and m[2] == name and len(m[1]) == digits), None)


def sum_under(title: str, name: str, text: str, digits: int) -> str | None:
    """Return the sum for `name` in the section `# <title> HASH` of `text`, or None (Flatcar's .DIGESTS)."""
    section, lines = "", list[str]()
    for line in text.splitlines():
        match = _TITLE.match(line)
        section = match[1] if match else section
        if section == title:
            lines.append(line)
    return sum_for(name, "\n".join(lines), digits)
