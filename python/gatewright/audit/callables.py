"""Looking through callables: partials, wrappers, methods, instances, and what their code says."""

from __future__ import annotations

import dis
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from .model import Location

# `get_session` is a database session far more often than a sign-in, and `verify` alone may verify anything: words that mostly mislead are left out.
SECURITY_WORDS = frozenset(
    [
        "auth",
        "authn",
        "authz",
        "authenticate",
        "authenticated",
        "authenticates",
        "authentication",
        "authenticator",
        "authorize",
        "authorized",
        "authorise",
        "authorised",
        "authorization",
        "authorisation",
        "login",
        "signin",
        "oauth",
        "oauth2",
        "oidc",
        "jwt",
        "bearer",
        "token",
        "credential",
        "credentials",
        "principal",
        "permission",
        "permissions",
        "require",
        "requires",
        "required",
        "verify",
        "verified",
        "guard",
        "guarded",
        "protect",
        "protected",
        "protection",
        "admin",
        "superuser",
        "staff",
        "role",
        "roles",
        "acl",
        "rbac",
        "abac",
        "identity",
        "security",
        "secured",
        "apikey",
    ]
)
AUTHORIZATION_WORDS = frozenset(
    [
        "authorize",
        "authorized",
        "authorise",
        "authorised",
        "authorization",
        "authorisation",
        "permission",
        "permissions",
        "admin",
        "superuser",
        "staff",
        "owner",
        "role",
        "roles",
        "acl",
        "rbac",
        "abac",
        "scopes",
    ]
)
# `get_jwt_strategy`, `get_auth_service`: what they give is used by somebody else.
OBJECT_WORDS = frozenset(
    [
        "backend",
        "cache",
        "client",
        "config",
        "db",
        "manager",
        "provider",
        "redis",
        "repo",
        "repository",
        "service",
        "session",
        "settings",
        "store",
        "strategy",
    ]
)
USER_WORDS = frozenset(["user", "account", "customer", "member", "person", "subject", "actor"])
PRESENT_WORDS = frozenset(["current", "active", "logged", "verified"])
REFUSAL_NUMBERS = frozenset((401, 403))
REFUSAL_NAMES = frozenset(
    (
        "HTTP_401_UNAUTHORIZED",
        "HTTP_403_FORBIDDEN",
        "UNAUTHORIZED",
        "FORBIDDEN",
        "Unauthorized",
        "Forbidden",
        "PermissionDenied",
        "NotAuthenticated",
    )
)
FORBIDDEN_NAMES = frozenset(("HTTP_403_FORBIDDEN", "FORBIDDEN", "Forbidden", "PermissionDenied"))
HANDLER_OPERATIONS = frozenset(("CHECK_EXC_MATCH", "JUMP_IF_NOT_EXC_MATCH", "POP_EXCEPT"))


def layers(call: object) -> Iterator[tuple[object, tuple[object, ...]]]:
    """The callable and everything it stands for, each with the ``functools.wraps`` wrappers passed on the way."""
    queue: list[tuple[object, tuple[object, ...]]] = [(call, ())]
    seen: set[int] = set()
    while queue:
        layer, wrappers = queue.pop(0)
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer, wrappers
        if isinstance(layer, functools.partial):
            queue.append((layer.func, wrappers))
            continue
        if inspect.ismethod(layer):
            queue.append((layer.__func__, wrappers))
            continue
        implementation = _attribute(layer, "__func_impl__")  # makefun: a generated signature in front of the function
        if implementation is not None:
            queue.append((implementation, wrappers))
        wrapped = _attribute(layer, "__wrapped__")
        if wrapped is not None and wrapped is not implementation:
            queue.append((wrapped, (*wrappers, layer)))


def innermost(call: object) -> object:
    """What a chain of partials, wrappers and methods ends in."""
    return list(layers(call))[-1][0]


def find_swallowed(wrappers: tuple[object, ...]) -> str | None:
    """Why wrappers around a guard cannot be trusted to pass its refusal on, if there is a reason."""
    for wrapper in wrappers:
        code = code_of(wrapper)
        if code is None:
            return f"{name_of(wrapper)} wraps it in a way the audit cannot read"
        wrapped = getattr(wrapper, "__wrapped__", None)
        if not _refers_to(wrapper, code, wrapped):
            return f"{name_of(wrapper)} only borrows its name and never calls it"
        if any(operation.opname in HANDLER_OPERATIONS for operation in dis.get_instructions(code)):
            return f"{name_of(wrapper)} wraps it and catches exceptions, so a refusal may be swallowed"
    return None


def is_product_of(layer: object, factory: object) -> bool:
    """Whether a function was made by running the factory (its code lies in the factory's code)."""
    code, outer = code_of(layer), code_of(factory)
    return code is not None and outer is not None and code is not outer and id(code) in _nested_codes(outer)


def code_of(layer: object) -> CodeType | None:
    """The code a plain function, a method, or an instance with ``__call__`` runs."""
    if inspect.ismethod(layer):
        layer = layer.__func__
    if isinstance(layer, FunctionType):
        return layer.__code__
    if not inspect.isclass(layer) and not inspect.isbuiltin(layer):
        return getattr(inspect.getattr_static(type(layer), "__call__", None), "__code__", None)
    return None


def closure_of(layer: object) -> dict[str, Any]:
    """Free variables of a function by name, as they are now."""
    if inspect.ismethod(layer):
        layer = layer.__func__
    if not isinstance(layer, FunctionType):
        return {}
    out: dict[str, Any] = {}
    for name, cell in zip(layer.__code__.co_freevars, layer.__closure__ or (), strict=False):
        try:
            out[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return out


def name_of(layer: object) -> str:
    """A name people recognise: the qualified name of a function, the class of an instance."""
    if isinstance(layer, functools.partial):
        return name_of(layer.func)
    name = getattr(layer, "__qualname__", None) or type(layer).__qualname__
    return str(name).replace(".<locals>", "")


def looks_like_security(layer: object) -> bool:
    """Whether its name or its code suggests that it refuses somebody. Says nothing about whether it does."""
    code = code_of(layer)
    # Under functools.wraps the name is that of the wrapped endpoint; the code keeps the decorator's own.
    names = [name_of(layer)] if not inspect.isclass(layer) else [layer.__name__]
    if code is not None:
        names = [getattr(code, "co_qualname", code.co_name).replace(".<locals>", ""), *([] if hasattr(layer, "__wrapped__") else names)]
    # A factory lends its name to its product; what lies further out only says where it was written.
    return any(name_sounds_secure(".".join(name.split(".")[-2:])) for name in names) or (
        code is not None and _mentions(code, REFUSAL_NUMBERS, REFUSAL_NAMES)
    )


@functools.lru_cache(maxsize=4096)
def name_sounds_secure(name: str) -> bool:
    words = _words(name)
    if name.rsplit(".", 1)[-1].lower().rsplit("_", 1)[-1] in OBJECT_WORDS:
        return False
    if words & {"header", "headers"}:
        words -= {"security", "secured"}  # add_security_headers refuses nobody
    if words & SECURITY_WORDS or {"api", "key"} <= words:
        return True
    return bool(words & PRESENT_WORDS and words & USER_WORDS)


def authorizes(layer: object) -> bool:
    """Whether the name or a 403 in the code suggests a check beyond being signed in."""
    return bool(_words(".".join(name_of(layer).split(".")[-2:])) & AUTHORIZATION_WORDS) or can_forbid(layer)


def can_forbid(layer: object) -> bool:
    """Whether the code mentions 403."""
    code = code_of(layer)
    return code is not None and _mentions(code, frozenset((403,)), FORBIDDEN_NAMES)


def locate(call: object) -> Location | None:
    """Where the innermost function or class is written."""
    target = innermost(call)
    code = code_of(target)
    if code is not None and not inspect.isclass(target):
        return Location(relative(code.co_filename), code.co_firstlineno)
    try:
        cls = target if inspect.isclass(target) else type(target)
        file = inspect.getsourcefile(cls)
        return Location(relative(file), inspect.getsourcelines(cls)[1]) if file else None
    except (OSError, TypeError):
        return None


def relative(file: str) -> str:
    """The file relative to the working directory if it lies inside, with forward slashes."""
    return _relative_to(os.getcwd(), file)


@functools.lru_cache(maxsize=4096)
def _relative_to(here: str, file: str) -> str:
    absolute = os.path.abspath(file)
    inside = absolute.startswith(here.rstrip(os.sep) + os.sep)
    return (os.path.relpath(absolute, here) if inside else absolute).replace(os.sep, "/")


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def _attribute(layer: object, name: str) -> Callable[..., Any] | None:
    # Instances that answer every attribute (mocks, proxies) would otherwise make endless chains. A function answers only what is in its
    # own dictionary, and nearly every layer is one.
    found = layer.__dict__.get(name) if type(layer) is FunctionType else inspect.getattr_static(layer, name, None)
    return found if callable(found) else None


def _refers_to(wrapper: object, code: CodeType, wrapped: object) -> bool:
    function = wrapper.__func__ if inspect.ismethod(wrapper) else wrapper
    if any(value is wrapped for value in closure_of(function).values()):
        return True
    return isinstance(function, FunctionType) and any(function.__globals__.get(name) is wrapped for name in code.co_names)


@functools.lru_cache(maxsize=4096)
def _mentions(code: CodeType, numbers: frozenset[int], names: frozenset[str]) -> bool:
    if names.intersection(code.co_names):
        return True
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if _mentions(constant, numbers, names):
                return True
        elif type(constant) is int and constant in numbers:
            return True
    return False


@functools.lru_cache(maxsize=256)
def _nested_codes(code: CodeType) -> frozenset[int]:
    found: set[int] = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.add(id(constant))
            found |= _nested_codes(constant)
    return frozenset(found)
