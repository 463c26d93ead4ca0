"""The environment's variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from saas.settings import Settings
from tests.held_names.code import modules
from tests.held_names.shapes import shape

OF_TEMPORAL = re.compile(r"TEMPORAL_[A-Z_]+")  # which temporalio.envconfig reads


def environment_names() -> Iterator[str]:
    """One line for each, and for each value where there are few."""
    for path in shape(Settings, "validation"):
        name, _, value = path.removeprefix(".").partition(" = ")
        if name:
            yield f"{name.upper()} = {value}" if value else name.upper()
    for module in modules():
        for node in ast.walk(module.tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and OF_TEMPORAL.fullmatch(node.value)
            ):
                yield node.value
