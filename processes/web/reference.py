"""The schemas of request bodies in OpenAPI, as FastAPI does not parse them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

_SCHEMAS: Final = "#/components/schemas/"
REF_TEMPLATE: Final = _SCHEMAS + "{model}"


def reference_to(model: type[BaseModel]) -> dict[str, str]:
    """Returns the reference to a model's schema, which `openapi.py` adds."""
    return {"$ref": f"{_SCHEMAS}{model.__name__}"}


def json_body(model: type[BaseModel], examples: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns FastAPI's `openapi_extra` for a route that reads `model` from its body.

    `examples` are bodies (JSON) by name.
    """
    content: dict[str, Any] = {"schema": reference_to(model)}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}
