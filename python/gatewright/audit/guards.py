"""Which objects count as guards: Gatewright's own by their facts, everybody else's by declaration."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .._facts import GuardFacts
from .callables import authorizes, closure_of, find_swallowed, innermost, is_product_of, layers, looks_like_security, name_of
from .model import GuardUse

# What factories and schemes call "let strangers through" and "ask for more than a sign-in".
LENIENT = (("optional", True), ("auto_error", False), ("required", False), ("raise_exception", False))
DEMANDING = ("superuser", "admin", "role", "roles", "permission", "permissions", "scope", "scopes", "required_scopes", "privileges")
FORMS = frozenset(
    (
        "OAuth2PasswordRequestForm",
        "OAuth2PasswordRequestFormStrict",
        "SecurityScopes",
        "HTTPBasicCredentials",
        "HTTPAuthorizationCredentials",
    )
)


class UnknownGuard(LookupError):
    """A ``--guard`` that cannot be imported."""


@dataclass(frozen=True)
class Suspect:
    """Looks like security, is not known to be."""

    name: str
    why: str
    harmless: bool = False
    """A scheme with ``auto_error=False`` read by the endpoint itself: it refuses nobody."""
    void: bool = False
    """Would be a guard, but this version of FastAPI never runs it."""


@dataclass
class Guards:
    """The declared guards; remembers which of them were seen."""

    strict: dict[str, object] = field(default_factory=dict)
    lenient: dict[str, object] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    _known: dict[int, tuple[object, GuardUse | Suspect | None]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, strict: Iterable[str | object] = (), lenient: Iterable[str | object] = ()) -> Guards:
        """From ``module:function`` names or the objects themselves. Raises ``UnknownGuard``."""
        return cls(strict=dict(map(_named, strict)), lenient=dict(map(_named, lenient)))

    def unseen(self) -> list[str]:
        return [name for name in (*self.strict, *self.lenient) if name not in self.seen]

    def recognise(self, call: object) -> GuardUse | Suspect | None:
        """A guard, something that looks like one, or neither."""
        known = self._known.get(id(call))
        if known is None or known[0] is not call:
            known = (call, self._classify(call))
            self._known[id(call)] = known  # holds the object, so that its id stays its own
        return known[1]

    def find_guard(self, call: object) -> GuardUse | Suspect | None:
        """A guard (or a wrapper that spoils one); never a mere resemblance."""
        for layer, wrappers in layers(call):
            use = self._match(layer)
            if use is None:
                continue
            if layer is not call and is_never_awaited(call):
                import fastapi

                return Suspect(
                    use.name,
                    f"FastAPI {fastapi.__version__} never awaits it in this form, upgrade to 0.123.5 or pass the function itself",
                    void=True,
                )
            if any(isinstance(outer, functools.partial) and _is_lenient_about(outer.keywords) for outer, _ in layers(call)):
                use = replace(use, optional=True)
            spoiled = find_swallowed(wrappers)
            return use if spoiled is None else Suspect(use.name, spoiled)
        return None

    def find_decorator(self, endpoint: object) -> GuardUse | Suspect | None:
        """A guard applied as a decorator: a wrapper around the endpoint, not the endpoint itself."""
        suspect: Suspect | None = None
        for layer, _ in layers(endpoint):
            facts = _facts(layer, "gatewright_facts")
            if facts is not None:
                return _use_of(facts)
            if not hasattr(layer, "__wrapped__"):
                continue
            for names, optional in ((self.strict, False), (self.lenient, True)):
                for name, target in names.items():
                    if is_product_of(layer, target):
                        self.seen.add(name)
                        return GuardUse(
                            "declared",
                            _shown(name, target, layer),
                            optional=optional or _is_lenient(layer),
                            authorizes=_is_demanding(layer),
                        )
            if suspect is None and looks_like_security(layer):
                code = getattr(layer, "__code__", None)
                suspect = Suspect(getattr(code, "co_qualname", name_of(layer)).replace(".<locals>", ""), "a decorator")
        return suspect

    def _classify(self, call: object) -> GuardUse | Suspect | None:
        found = self.find_guard(call)
        if found is not None:
            return found
        if is_security_scheme(call):
            if getattr(call, "auto_error", True) is False:
                return Suspect(name_of(call), "with auto_error=False it refuses nobody", harmless=True)
            return Suspect(name_of(call), "a scheme only checks that a credential is there, not that it is good")
        short = name_of(call).rsplit(".", 1)[-1]
        if short in FORMS or (inspect.isclass(call) and short.endswith("Form")):
            return None  # what a sign-in reads, not what refuses
        for layer, _ in layers(call):
            if looks_like_security(layer):
                return Suspect(name_of(layer), "nobody declared it to be a guard")
        return None

    def _match(self, layer: object) -> GuardUse | None:
        facts = _facts(layer, "facts")
        if facts is not None:
            return _use_of(facts)
        for names, optional in ((self.strict, False), (self.lenient, True)):
            for name, target in names.items():
                if _is(layer, target):
                    self.seen.add(name)
                    if type(layer).__module__.startswith("fastapi.security"):
                        return None  # hands over what it finds in a header, whatever that is; declaring it changes nothing
                    return GuardUse(
                        "declared", _shown(name, target, layer), optional=optional or _is_lenient(layer), authorizes=_is_demanding(layer)
                    )
        return None


def read_guard_middleware(cls: object, arguments: tuple[object, ...], named: dict[str, object]) -> GuardUse | Suspect | None:
    """What ``gatewright.asgi.GuardMiddleware`` demands of every request, if the same of each."""
    if getattr(cls, "__name__", "") != "GuardMiddleware":
        return None
    made = next((argument for argument in arguments if type(argument) is cls), None)
    rule = named.get("require", False) if made is None else getattr(made, "_rule", False)
    if rule is False:
        return None
    if rule is True:
        return _use_of(GuardFacts("principal"))
    if callable(rule):
        return Suspect("GuardMiddleware", f"{name_of(rule)} decides for each request, a probe can settle it")
    kinds: tuple[Any, ...] = tuple(getattr(rule, "kinds", ()))
    facts = GuardFacts(
        kind=kinds[0] if len(kinds) == 1 else "principal",
        roles=tuple(getattr(rule, "roles", ())),
        permissions=tuple(getattr(rule, "permissions", ())),
        scopes=tuple(getattr(rule, "scopes", ())),
        organization="*" if getattr(rule, "organization", False) else None,
        mfa=bool(getattr(rule, "mfa", False)),
        max_age=getattr(rule, "max_age", None),
        impersonation=bool(getattr(rule, "impersonation", True)),
        fresh=bool(getattr(rule, "fresh", False)),
        csrf=bool(getattr(rule, "check_cross_site", True)),
        cookies="user" in kinds,
    )
    return _use_of(facts)


def is_never_awaited(call: object) -> bool:
    """Until 0.123.5 FastAPI took a partial of a coroutine function, or a plain wrapper around one, for a plain function: it threw the coroutine away."""
    import fastapi

    if version_of(fastapi.__version__) >= (0, 123, 5) or (inspect.iscoroutinefunction(call) and not isinstance(call, functools.partial)):
        return False
    if not isinstance(call, functools.partial) and not hasattr(call, "__wrapped__"):
        return False
    last = innermost(call)
    return inspect.iscoroutinefunction(last) or inspect.iscoroutinefunction(getattr(type(last), "__call__", None))  # noqa: B004 (the function is wanted, not whether there is one)


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def is_security_scheme(call: object) -> bool:
    from fastapi.security.base import SecurityBase

    return isinstance(call, SecurityBase)


def reads_cookie(call: object) -> bool:
    from fastapi.security import APIKeyCookie

    return isinstance(call, APIKeyCookie)


def resolve_name(spec: str) -> object:
    """The object named ``module:attribute.path``. Raises ``UnknownGuard``."""
    module_name, colon, path = spec.partition(":")
    if not colon or not module_name or not path:
        raise UnknownGuard(f"'{spec}' is not of the form module:function")
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        raise UnknownGuard(f"'{spec}': importing {module_name} failed: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UnknownGuard(f"'{spec}': {name_of(found) if not inspect.ismodule(found) else found.__name__} has no '{part}'") from None
    return found


def _named(spec: str | object) -> tuple[str, object]:
    if isinstance(spec, str):
        return spec, resolve_name(spec)
    module = getattr(spec, "__module__", None) or type(spec).__module__
    return f"{module}:{name_of(spec)}", spec


def _facts(layer: object, attribute: str) -> GuardFacts | None:
    try:
        facts = getattr(layer, attribute, None)
    except Exception:  # a property of somebody else's object
        return None
    return facts if isinstance(facts, GuardFacts) else None


def _use_of(facts: GuardFacts) -> GuardUse:
    return GuardUse(facts.kind, facts.describe(), facts=facts, optional=facts.optional, authorizes=facts.authorizes())


def _shown(name: str, target: object, layer: object) -> str:
    """``current_user(active, superuser)`` for a product of a factory, else what the guard was declared as."""
    short = name.rpartition(":")[2]
    if inspect.isclass(target) or not is_product_of(layer, target):
        return short
    settings = closure_of(layer)
    words = [key for key, value in sorted(settings.items()) if value is True]
    # Other values may be secrets, so only those that name a demand are shown.
    for key in DEMANDING:
        value = settings.get(key)
        if isinstance(value, str) and value:
            words.append(f"{key}={value}")
        elif isinstance(value, list | tuple | set | frozenset) and value and all(isinstance(item, str) for item in value):
            words.append(f"{key}={'|'.join(sorted(value))}")
    return short.rsplit(".", 1)[-1] + (f"({', '.join(words)})" if words else "")


def _is(layer: object, target: object) -> bool:
    if layer is target or is_product_of(layer, target):
        return True
    if inspect.isclass(target):
        return not inspect.isclass(layer) and isinstance(layer, target)
    if inspect.ismethod(layer) and inspect.ismethod(target):
        return layer == target
    return inspect.ismethod(target) and layer is target.__func__


def _is_lenient(layer: object) -> bool:
    return _is_lenient_about(_settings(layer))


def _is_lenient_about(values: dict[str, Any]) -> bool:
    return any(values.get(name) is value for name, value in LENIENT)


def _is_demanding(layer: object) -> bool:
    values = _settings(layer)
    return authorizes(layer) or any(bool(values.get(name)) for name in DEMANDING)


def _settings(layer: object) -> dict[str, Any]:
    """What a factory product closed over, or what an instance was made with."""
    values = closure_of(layer)
    if not values and not inspect.isroutine(layer) and not inspect.isclass(layer):
        values = dict(getattr(layer, "__dict__", None) or {})
    return values
