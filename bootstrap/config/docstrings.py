"""What the model says of its fields: the text below each, read from its source only when somebody wants to see it.

pydantic can read them too, at every import: a third of the time that `check` takes.
"""

import ast
import inspect
import textwrap
from functools import cache

from pydantic import BaseModel


@cache
def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings of the fields of `model`, by their Python names."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _own(kind)
    return {name: found[name] for name in model.model_fields if name in found}


def _own(model: type[BaseModel]) -> dict[str, str]:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101  # the source of a class is one
    pairs = zip(tree.body, tree.body[1:], strict=False)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
