"""Descriptions of what the values of variables may be, for messages about wrong ones."""

import os
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from dotenv import dotenv_values
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway_project.env.variables import Variables

KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}


def describe(error: ErrorDetails) -> str:
    """Return one line about a wrong variable. It does not repeat the value, which may be a secret."""
    names, field = next(each for each in named_fields() if str(error["loc"][0]).lower() in each[0])
    problem = error["ctx"]["error"] if error["type"] == "value_error" else f"it must be {expected(field)}"
    return f"{name_in_use(names)}: {problem}"


def name_in_use(names: Sequence[str]) -> str:
    """Return the name under which a variable is set; the first one if it is not set."""
    file = Variables.model_config.get("env_file")
    sources = (os.environ, dotenv_values(file) if isinstance(file, str) else {})
    set_names = (name.upper() for source in sources for name in names if source.get(name.upper()))
    return next(set_names, names[0].upper())


def named_fields() -> list[tuple[tuple[str, ...], FieldInfo]]:
    return [(names_of(name, field), field) for name, field in Variables.model_fields.items()]


def names_of(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Return all names under which a variable is read, in the order of their precedence."""
    alias = field.validation_alias
    return tuple(map(str, alias.choices)) if isinstance(alias, AliasChoices) else (name,)


def expected(field: FieldInfo) -> str:
    """Return what the value of a field may be."""
    options = [option for option in get_args(field.annotation) if option]
    if get_origin(field.annotation) is Literal:
        return " or ".join(options)
    kind = next((KINDS[each] for each in (field.annotation, *options) if each in KINDS), "text")
    return f"{kind}{bounds(field)}"


def bounds(field: FieldInfo) -> str:
    """Return the range of a number, with a space before it; empty if there is none."""
    texts = []
    for limit in field.metadata:
        match limit:
            case Ge():
                texts.append(f" from {limit.ge}")
            case Gt():
                texts.append(f" above {limit.gt}")
            case Le():
                texts.append(f" to {limit.le}")
    text = "".join(texts)
    return text if " to " in text or " above " in text else text.replace(" from", " of at least")
