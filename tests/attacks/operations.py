"""The operations that `gatewright openapi` prints, and what each of them takes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from running_server import BINARY

PAGING = {"limit", "order", "before", "after"}


@dataclass(frozen=True)
class Slot:
    """A place in a request that takes a value. `name` of a field inside others is dotted; `[]` stands for the one element of a list."""

    where: str  # path, query or body
    name: str
    required: bool
    is_list: bool = False
    grant: str = ""  # the grant that a field of the token endpoint belongs to

    @property
    def last(self) -> str:
        return self.name.split(".")[-1].removesuffix("[]")


class Operation:
    def __init__(self, method: str, path: str, described: dict[str, Any], schemas: dict[str, Any]) -> None:
        self.method, self.path, self.described, self.schemas = method, path, described, schemas

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_public(self) -> bool:
        """Whether the document says that no key is needed."""
        return {} in self.described.get("security", [])

    @property
    def is_paged(self) -> bool:
        return {"limit", "after"} <= {p["name"] for p in self.described.get("parameters", [])}

    @property
    def statuses(self) -> set[int]:
        return {int(status) for status in self.described["responses"]}

    @cached_property
    def body(self) -> dict[str, Any] | None:
        content = self.described.get("requestBody", {}).get("content", {})
        return self.resolve(content["application/json"]["schema"]) if content else None

    @cached_property
    def answered(self) -> dict[str, dict[str, Any]]:
        """The fields of what a success answers."""
        fields: dict[str, dict[str, Any]] = {}
        for status, response in self.described["responses"].items():
            if status.startswith("2"):
                schema = response.get("content", {}).get("application/json", {}).get("schema", {})
                fields |= {name: self.resolve(field) for name, field in self.resolve(schema).get("properties", {}).items()}
        return fields

    @cached_property
    def slots(self) -> list[Slot]:
        found = [Slot("path", name, True) for name in re.findall(r"{(\w+)}", self.path)]
        for parameter in self.described.get("parameters", []):
            if parameter["in"] == "query" and parameter["name"] not in PAGING:
                is_list = self.resolve(parameter["schema"]).get("type") == "array"
                found.append(Slot("query", parameter["name"], bool(parameter.get("required")), is_list))
        return [*found, *self._fields(self.body or {}, "", True)]

    def _fields(self, schema: dict[str, Any], prefix: str, wanted: bool) -> Iterator[Slot]:
        for name, raw in schema.get("properties", {}).items():
            field, required = self.resolve(raw), wanted and name in schema.get("required", [])
            items = self.resolve(field.get("items", {}))
            if field.get("properties"):
                yield from self._fields(field, f"{prefix}{name}.", required)
            elif items.get("properties"):
                yield from self._fields(items, f"{prefix}{name}[].", required)
            else:
                kinds = field.get("type")
                yield Slot("body", f"{prefix}{name}", required, "array" in (kinds if isinstance(kinds, list) else [kinds]))

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema itself, without references and without the alternative of being null."""
        while True:
            if "$ref" in schema:
                schema = self.schemas[schema["$ref"].rsplit("/", 1)[1]]
            elif choices := [s for key in ("oneOf", "allOf") for s in schema.get(key, []) if s.get("type") != "null"]:
                schema = choices[0]
            else:
                return schema


@dataclass
class Request:
    """A call as it goes out."""

    operation: Operation
    path: str
    query: dict[str, Any]
    body: Any
    sent: list[str]  # every text in it that came from a tenant


def read_operations() -> list[Operation]:
    printed = subprocess.run([str(BINARY), "openapi"], capture_output=True, text=True, timeout=30, check=True).stdout
    document = json.loads(printed)
    schemas = document["components"]["schemas"]
    return [
        Operation(method.upper(), path, described, schemas)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]


def place(body: dict[str, Any], name: str, value: Any) -> None:
    """Puts a value at a dotted name."""
    *outer, last = name.split(".")
    for step in outer:
        body = body.setdefault(step[:-2], [{}])[0] if step.endswith("[]") else body.setdefault(step, {})
    body[last] = value
