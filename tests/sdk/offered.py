"""Which of the served operations an SDK offers: every method is called once, and what it would have sent is looked at, not sent."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

REQUIRED = Path(__file__).parent.parent / "contract" / "operations.txt"
# Organizations and what belongs to them.
TENANCY = re.compile(
    r"\w+ /(organizations(?!/{id}/audit_log)|organization_domains|authorization|api_keys|feature-flags"
    r"|user_management/(organization_memberships|invitations|users/[^/]+/(api_keys|feature-flags)))(/|$)"
)
# Audit logs of organizations.
AUDIT_LOGS = re.compile(r"\w+ /(audit_logs|organizations/{id}/audit_log)")


class Anything(str):
    """Fits every parameter: a text, a list or a dict of one, an object with every field and method."""

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> Anything:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter([self])

    def __getitem__(self, _: object) -> Any:
        return self


def list_operations(of: re.Pattern[str] = TENANCY) -> list[str]:
    """The operations of organizations and of what belongs to them, or others, as `METHOD /path/{parameter}`."""
    lines = REQUIRED.read_text().splitlines()
    return [line for line in lines if of.match(line)]


def find_operation(method: str, path: str, of: re.Pattern[str] = TENANCY) -> str | None:
    """The operation that a request asks for; words before parameters."""
    found = [operation for operation in list_operations(of) if matches(operation, method, path)]
    return min(found, key=lambda operation: operation.count("{"), default=None)


def matches(operation: str, method: str, path: str) -> bool:
    verb, template = operation.split()
    return verb == method.upper() and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def list_offered(client: Any, of: re.Pattern[str] = TENANCY) -> dict[str, str]:
    """The Python methods that ask for one of the operations, as `resource.method`, with the operation."""
    offered = {}
    for resource_name, resource in list_public(client, lambda member: type(member).__module__.startswith("workos.")):
        for method_name, method in list_public(resource, inspect.ismethod):
            for verb, path in list_requests(method):
                if operation := find_operation(verb, path, of):
                    offered[f"{resource_name}.{method_name}"] = operation
    return offered


def list_public(holder: Any, wanted: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    return [(name, member) for name, member in inspect.getmembers(holder, wanted) if not name.startswith("_")]


def list_requests(method: Any) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    def note(_: httpx.Client, request: httpx.Request, **__: object) -> httpx.Response:
        asked.append((request.method, request.url.path))
        return httpx.Response(200, json={}, request=request)

    parameters = inspect.signature(method).parameters.values()
    given = {p.name: Anything("x") for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    # An empty object is no answer to most calls; only what was asked counts.
    with mock.patch.object(httpx.Client, "send", note), contextlib.suppress(Exception):
        method(**given)
    return asked


class Noted:
    """An SDK, unmodified, with a list of the methods that were answered."""

    def __init__(self, client: Any) -> None:
        self.client, self.answered = client, set[str]()

    def __getattr__(self, resource: str) -> Any:
        return NotedResource(getattr(self.client, resource), resource, self.answered)

    def list_unanswered(self, of: re.Pattern[str] = TENANCY) -> dict[str, str]:
        """The methods of the SDK that ask for one of the operations and were not answered yet."""
        return {method: operation for method, operation in list_offered(self.client, of).items() if method not in self.answered}


class NotedResource:
    def __init__(self, resource: Any, name: str, answered: set[str]) -> None:
        self.resource, self.name, self.answered = resource, name, answered

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.resource, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            self.answered.add(f"{self.name}.{name}")
            return answer

        return call
