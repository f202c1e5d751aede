"""A command's options, made from the dataclass that they fill."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, get_args, get_origin

import click

from edgeprune.cli.parts import Duration, Number, Numbers
from edgeprune.options import SECONDS, Described, described

Command = Callable[..., None]


def filled(kind: type[Any], name: str) -> Callable[[Command], Command]:
    """Give a command an option per described field of a dataclass; it gets the dataclass that they make as `name`."""
    offered = described(kind)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**given: Any) -> None:
            values = {field.field: given.pop(field.field) for field in offered}
            command(**{name: kind(**values)}, **given)

        for field in reversed(offered):
            click.option(field.name, field.field, **_settings(field))(call)
        return call

    return decorate


def _settings(field: Described) -> dict[str, Any]:
    """What click is told of a field."""
    option = field.option
    if field.kind is bool:
        return {"is_flag": True, "help": option.help}
    default, listed = field.default, isinstance(field.default, tuple)
    return {
        "type": _type(field),
        "help": option.help,
        "metavar": option.metavar or ("N" if field.kind is int else None),
        "default": ",".join(map(str, default)) if default and listed else default,
        "show_default": bool(default),
    }


def _type(field: Described) -> Any:
    option = field.option
    if get_origin(field.kind) is tuple:
        return Numbers(get_args(field.kind)[0])
    if field.kind is float:
        return (
            Duration() if field.field.endswith(SECONDS) else Number(-math.inf if option.least is None else option.least)
        )
    if field.kind is int and option.least is not None:
        return click.IntRange(option.least, option.most)
    return field.kind
