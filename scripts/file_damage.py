"""Damaged and wrong JSON, TOML, safetensors and zip files, drawn at random; most seals are made to fit again."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEEP = 100_000
ODD_NAMES = ("../x", "/etc/passwd", "", ".", "..", "a/../../b", "x\0y", "\ud800", "manifest.json", "n" * 5000, "a\nb")
ODD = (
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, 10**400, -0.5, 1e308, float("nan"), float("inf"), -float("inf"),
    "x", "0", [], {}, [[]], [None], {"x": 1}, [1, 2, 3], ["a", "b"], *ODD_NAMES,
)  # fmt: skip
TOML_ODD = (
    "nan", "inf", "-inf", "1e999", "-1", "0", "true", '"x"', "''", "[]", "{}", "[[[]]]", "1979-05-27", "07:32:00",
    "9" * 30, "9" * 5000, '"../x"', '"\\u0000"', "[1, 2]", '["a", 1]', "{a = 1}", "0x7fffffffffffffffff", "=", '"',
)  # fmt: skip


def damage_bytes(draw: random.Random, data: bytes) -> bytes:
    """Cut, flip, repeat or replace."""
    kind = draw.choice(("cut", "flip", "flip", "double", "zero", "insert", "empty", "garbage"))
    place = draw.randrange(len(data) + 1)
    if kind == "cut":
        return data[:place]
    if kind == "flip" and data:
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 8))):
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind == "double":
        return data + data
    if kind == "zero":
        return data[:place] + bytes(len(data) - place)
    if kind == "insert":
        return data[:place] + draw.randbytes(draw.randrange(1, 9)) + data[place:]
    return b"" if kind == "empty" else draw.randbytes(draw.randrange(1, 200))


def damage_place(draw: random.Random, path: Path) -> None:
    """Something else than a file where a file should be."""
    kind = draw.choice(("gone", "folder", "link out", "loop", "pipe", "huge"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link out":
        path.symlink_to("/etc/passwd")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a JSON value; of long lists a few entries."""
    if path:
        yield path
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))[:3]
    for key, child in children:
        yield from places(child, (*path, key))


def damage_json(draw: random.Random, content: Any) -> Any:
    """One to three wrong values, missing, unknown or misspelt fields."""
    content = copy.deepcopy(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        ways = list(places(content))
        if not ways:
            return content
        *way, key = draw.choice(ways)
        holder = content
        for step in way:
            holder = holder[step]
        kind = draw.choice(("value", "value", "value", "value", "number", "remove", "add", "rename", "move"))
        if kind == "number" and isinstance(holder[key], (int, float)):
            holder[key] = draw.choice((-holder[key], holder[key] * 10, holder[key] + 1, 10**12, 0, str(holder[key])))
        elif kind == "remove" or (kind == "rename" and isinstance(holder, list)):
            del holder[key]
        elif kind == "rename":
            holder[draw.choice(ODD_NAMES)] = holder.pop(key)
        elif kind == "add" and isinstance(holder, dict):
            holder["unknown"] = 1
        elif kind == "move":
            holder[key] = copy.deepcopy(content[ways[0][0]])
        else:
            holder[key] = copy.deepcopy(draw.choice(ODD))
    return content


def seal(content: Any) -> bytes:
    """JSON text with the seal that its content asks for, as whoever edits a file on purpose would make it."""
    if not isinstance(content, dict):
        return json.dumps(content).encode()
    body = {name: value for name, value in content.items() if name != "seal"}
    if "spec" in body and "id" in body and isinstance(body["spec"], dict):
        body["id"] = _hash({**body["spec"], "schema_version": 1})
    return json.dumps({**body, "seal": _hash(body)}, indent=1).encode()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def odd_json_text(draw: random.Random, text: str) -> str:
    """What no writer of JSON would make: very deep, a field twice, numbers out of any range, several values."""
    value = draw.choice(
        ("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "1e999", "-1e999", "NaN", "Infinity", "9" * 5000)
    )
    kind = draw.choice(("first", "last", "whole", "twice", "behind", "marked"))
    if kind == "first":
        return text.replace("{", f'{{"unknown": {value}, ', 1)
    if kind == "last":
        return text.rstrip().rstrip("}") + f', "unknown": {value}}}'
    if kind == "whole":
        return value
    if kind == "twice":
        return text.replace("{", '{"schema_version": 1, ', 1)
    return text + text if kind == "behind" else "\ufeff" + text


def damage_json_file(draw: random.Random, path: Path) -> None:
    """A sealed JSON file, mostly with a seal that fits."""
    data = path.read_bytes()
    kind = draw.choice(("values", "values", "values", "values", "unsealed", "text", "bytes", "place"))
    if kind == "values":
        path.write_bytes(seal(damage_json(draw, json.loads(data))))
    elif kind == "unsealed":
        path.write_text(json.dumps(damage_json(draw, json.loads(data))))
    elif kind == "text":
        path.write_text(odd_json_text(draw, data.decode()), encoding="utf-8")
    elif kind == "bytes":
        path.write_bytes(damage_bytes(draw, data))
    else:
        damage_place(draw, path)


def damage_toml_file(draw: random.Random, path: Path) -> None:
    """A TOML file: other values, keys and tables, lines gone, twice or elsewhere, and what is no TOML."""
    kind = draw.choice(("value", "value", "value", "value", "key", "drop", "twice", "swap", "deep", "bytes", "place"))
    if kind == "place":
        return damage_place(draw, path)
    lines = path.read_text().splitlines()
    at = draw.choice([number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")])
    key, equals, _ = lines[at].partition("=")
    if kind == "value" and equals:
        lines[at] = f"{key}= {draw.choice(TOML_ODD)}"
    elif kind in ("value", "key"):
        lines[at] = draw.choice(("[", "[x]", "[[x]]", "x = 1", "machine.cpu = 1", "[machine.cpu]", "[[runtimes]]"))
    elif kind == "drop":
        del lines[at]
    elif kind == "twice":
        lines.insert(at, lines[at])
    elif kind == "swap":
        other = draw.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "deep":
        lines.insert(at, draw.choice((f"x = {'[' * DEEP}{']' * DEEP}", "x." * DEEP + "y = 1", "x = " + "{a=" * DEEP)))
    data = "\n".join(lines).encode()
    path.write_bytes(damage_bytes(draw, data) if kind == "bytes" else data)


def damage_tensors_file(draw: random.Random, path: Path) -> None:
    """A safetensors file: its header's JSON, its length, its data."""
    data = path.read_bytes()
    kind = draw.choice(("header", "header", "header", "data", "length", "text", "bytes", "place"))
    if kind == "place":
        return damage_place(draw, path)
    length = int.from_bytes(data[:8], "little")
    header, tensors = data[8 : 8 + length], data[8 + length :]
    if kind == "header":
        header = json.dumps(damage_json(draw, json.loads(header))).encode()
    elif kind == "text":
        header = odd_json_text(draw, header.decode()).encode("utf-8", "surrogatepass")
    elif kind == "data" and tensors:
        cell = draw.choice((b"\xff", b"\x00", b"\x7f"))
        at = draw.randrange(len(tensors))
        count = min(draw.choice((1, 4, 64)), len(tensors) - at)
        tensors = tensors[:at] + cell * count + tensors[at + count :]
    begin = draw.choice((0, 2**40, 2**64 - 1, len(header) + 1, 7)) if kind == "length" else len(header)
    changed = begin.to_bytes(8, "little") + header + tensors
    path.write_bytes(damage_bytes(draw, data) if kind == "bytes" else changed)


def damage_zip_file(draw: random.Random, path: Path) -> None:
    """A bundle's archive: entries that leave the folder, links, bombs, doubles, and damaged bytes."""
    data = path.read_bytes()
    kind = draw.choice(("entry", "entry", "manifest", "bytes", "place"))
    if kind == "place":
        return damage_place(draw, path)
    if kind == "bytes":
        path.write_bytes(damage_bytes(draw, data))
        return None
    changed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        wrong = draw.choice(names)
        for name in names:
            entry, content = zipfile.ZipInfo(name), old.read(name)
            if kind == "manifest" and name.endswith("manifest.json"):
                content = seal(damage_json(draw, json.loads(content)))
            elif kind == "entry" and name == wrong:
                entry, content = _wrong_entry(draw, name, content)
            new.writestr(entry, content, zipfile.ZIP_DEFLATED)
    path.write_bytes(changed.getvalue())
    return None


def _wrong_entry(draw: random.Random, name: str, content: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    odd: list[Callable[[], tuple[str, bytes]]] = [
        lambda: ("../" + name, content),
        lambda: ("/tmp/" + name, content),
        lambda: ("other/" + name, content),
        lambda: (name.replace("/", "\\"), content),
        lambda: (name.partition("/")[2], content),
        lambda: (name, bytes(200 << 20)),
        lambda: (name + "/deeper", content),
    ]
    entry_name, data = draw.choice(odd)()
    entry = zipfile.ZipInfo(entry_name)
    if draw.random() < 0.2:
        entry.external_attr, data = 0o120777 << 16, b"/etc/passwd"
    return entry, data
