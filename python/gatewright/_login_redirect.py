"""Sends people, and only people, from a guarded page to the sign-in."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

from gatewright._core import Refusal
from gatewright._engine import public_path

LOGIN_ROUTE = "gatewright_login"
# `acr` of a sign-in with two factors.
AAL2 = "aal2"
_SIGN_IN_HELPS = frozenset({"no_credential", "invalid_session", "session_ended", "revoked", "invalid_token", "step_up_required"})
_SECONDS = re.compile(r"[0-9]{1,9}")


def find_login(scope: Any, owner: Any, refusal: Refusal) -> str | None:
    """Where a browser that opened a page goes to sign in, or to prove more, and come back; None for everybody else."""
    if refusal.code not in _SIGN_IN_HELPS or not is_navigation(scope):
        return None
    login = path_of_login(scope, owner)
    if login is None:
        return None
    query = scope.get("query_string", b"").decode("latin-1")
    return_to = quote(public_path(scope), safe="/:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
    proof = step_up_query(refusal)
    return f"{login}?return_to={quote(return_to, safe='/')}" + (f"&{proof}" if proof else "")


def step_up_query(refusal: Refusal) -> str:
    """What the sign-in is asked to be where it was refused for what it was; empty elsewhere."""
    wanted: dict[str, str] = {}
    if refusal.acr_values is not None:
        wanted["acr_values"] = refusal.acr_values
    if refusal.max_age is not None:
        # Half of it: a sign-in that the server's clock takes for just young enough and this one for too old would go back and forth.
        wanted["max_age"] = str(refusal.max_age // 2)
    return urlencode(wanted)


def read_acr_values(text: str | None) -> str | None:
    """`acr_values` of the sign-in route's query. Anybody may write a link to it, so only what the guards themselves ask for passes."""
    return text if text == AAL2 else None


def read_max_age(text: str | None) -> int | None:
    """`max_age` of the sign-in route's query, whole seconds; None for anything else."""
    return int(text) if text is not None and _SECONDS.fullmatch(text) else None


def is_navigation(scope: Any) -> bool:
    """Whether a person opens this in a browser. Scripts and other clients are not sent anywhere."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if b"authorization" in headers or b"x-api-key" in headers or b"x-requested-with" in headers:
        return False
    if (mode := headers.get(b"sec-fetch-mode")) is not None:
        return mode == b"navigate"
    return b"text/html" in headers.get(b"accept", b"")


def path_of_login(scope: Any, owner: Any) -> str | None:
    """Path of the sign-in route of the app that answers, or of the one it is mounted in."""
    inner = scope.get("app")
    for app, root in ((inner, scope.get("root_path", "")), (owner, scope.get("app_root_path", ""))):
        try:
            path = str(app.url_path_for(LOGIN_ROUTE))
        except Exception:  # No such route, or no app that knows its routes.
            continue
        return f"{str(root).rstrip('/')}{path}"
    return None
