"""What JSON of a type looks like: the path of every field in it, and the values it may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import TypeAdapter

Schema = Mapping[str, Any]


def shape(of: Any, mode: Literal["validation", "serialization"]) -> Iterator[str]:
    """The paths of a type's JSON, as pydantic reads or writes it; an empty one for itself."""
    schema = TypeAdapter(of).json_schema(mode=mode)
    yield from paths(schema, schema)


def paths(schema: Schema, document: Schema, path: str = "", within: tuple[str, ...] = ()) -> Any:
    """The paths of a JSON schema: `.name` is a field, `[]` an element, `{}` a value by some key.

    A field of few values is `.name = value`, once for each. What holds its own kind ends there.

    Args:
        schema: the part to look at.
        document: the whole, in which references are looked up.
        path: where the part is.
        within: the references that lead there.
    """
    yield path
    reference = schema.get("$ref")
    if reference is not None:
        if reference not in within:
            found: Any = document
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]
            yield from paths(found, document, path, (*within, reference))
        return
    for value in schema.get("enum", [schema["const"]] if "const" in schema else []):
        yield f"{path} = {value}"
    for name, inner in schema.get("properties", {}).items():
        yield from paths(inner, document, f"{path}.{name}", within)
    inside = [(f"{path}[]", schema.get("items"))]
    inside += [(f"{path}[]", each) for each in schema.get("prefixItems", ())]
    inside += [(f"{path}{{}}", schema.get("additionalProperties"))]
    inside += [(path, each) for key in ("anyOf", "oneOf", "allOf") for each in schema.get(key, ())]
    for where, inner in inside:
        if isinstance(inner, Mapping):
            yield from paths(inner, document, where, within)
