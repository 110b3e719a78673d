"""The texts below configs/: read as they are, or rendered by the one Jinja2 environment."""

from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import jinja2

from bootstrap.errors import RenderError

_ROOT = Path(__file__).resolve().parents[1] / "configs"

# What may become text. A Secret is not among them, so none can be printed by a template.
_PRINTABLE = (str, int, IPv4Address, IPv4Network)


def _printable(value: object) -> object:
    """Return `value` if a template may print it.

    Raises:
        RenderError: its type is not plain, or it holds a line break, which could start a new directive.
    """
    if isinstance(value, jinja2.Undefined):
        return value  # complains by itself, with the name
    if not isinstance(value, _PRINTABLE):
        raise RenderError(f"a template tried to print a {type(value).__name__}")
    if isinstance(value, str) and not value.isprintable():
        raise RenderError(f"a template tried to print a control character: {value!r}")
    return value


@cache
def _environment() -> jinja2.Environment:
    """Return the environment: an undefined name is an error, and what is printed is plain."""
    return jinja2.Environment(
        auto_reload=False,
        loader=jinja2.FileSystemLoader(_ROOT),
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        autoescape=False,  # noqa: S701  # configuration files, never HTML; _printable guards the values
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def read(name: str) -> str:
    """Return the text `configs/<name>`, unchanged.

    Raises:
        RenderError: there is no such text.
    """
    try:
        return (_ROOT / name).read_text(encoding="utf-8")
    except OSError as error:
        raise RenderError(f"configs/{name} cannot be read: {error.strerror}") from error


def render(name: str, **values: object) -> str:
    """Return the template `configs/<name>` with `values` filled in.

    Raises:
        RenderError: the template is missing or wrong, a name is undefined, or a value must not be printed.
    """
    try:
        return _environment().get_template(name).render(**values)
    except jinja2.TemplateError as error:
        raise RenderError(f"configs/{name}: {type(error).__name__}: {error}") from error
