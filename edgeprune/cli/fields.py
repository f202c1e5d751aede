"""A command's options, made from the dataclass that they fill."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import click

from edgeprune.cli.parts import Duration, Number, Numbers
from edgeprune.options import Option

Command = Callable[..., None]
SECONDS = "_seconds"  # such a field takes times such as 10m, and its option says no unit


def filled(kind: type[Any], name: str) -> Callable[[Command], Command]:
    """Give a command an option per field of a dataclass that is annotated with an `Option`; it gets the dataclass that
    they make as `name`."""
    hints = get_type_hints(kind, include_extras=True)
    offered = [field for field in fields(kind) if get_origin(hints[field.name]) is Annotated]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**given: Any) -> None:
            values = {field.name: given.pop(field.name) for field in offered}
            command(**{name: kind(**values)}, **given)

        for field in reversed(offered):
            _offered(field.name, field.default, *get_args(hints[field.name]))(call)
        return call

    return decorate


def _offered(field: str, default: Any, hint: Any, option: Option) -> Callable[[Command], Command]:
    """What adds the option of one field to a command."""
    kind = get_args(hint)[0] if get_origin(hint) is Union else hint
    name = "--" + (option.name or field.removesuffix(SECONDS).replace("_", "-"))
    if kind is bool:
        return click.option(name, field, is_flag=True, help=option.help)
    metavar = option.metavar or ("N" if kind is int else None)
    if get_origin(kind) is tuple:
        kind, default = Numbers(get_args(kind)[0]), ",".join(map(str, default)) or ()
    elif kind is float:
        kind = Duration() if field.endswith(SECONDS) else Number(-math.inf if option.least is None else option.least)
    elif option.least is not None:
        kind = click.IntRange(option.least, option.most)
    shown = {"default": default, "show_default": bool(default), "metavar": metavar, "help": option.help}
    return click.option(name, field, type=kind, **shown)
