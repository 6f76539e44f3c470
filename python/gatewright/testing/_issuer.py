"""A stand-in for the server that mints real tokens, session cookies and API keys, and misbehaves on demand."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from gatewright._core import TestKey
from gatewright._engine import Engine
from gatewright.testing._acting import LEVELS, METHODS

if TYPE_CHECKING:
    from typing_extensions import Self

Fault = Literal["hang", "garbage", "error", "slow"]


class TestIssuer:
    """Everything an app needs to believe its callers, on loopback. A context manager; construction opens the port.

        with TestIssuer() as issuer:
            gw = Gatewright(**issuer.settings())
            token = issuer.user_token(roles=["admin"], permissions=["expenses:write"])
            client.get("/expenses", headers={"Authorization": f"Bearer {token}"})

    `counts` says how often each path was asked; `fault` makes every answer fail: "error" (500), "garbage" (200 with nonsense),
    "slow" (a second late) or "hang" (no answer until `close`). Guards hear within a moment of what `revoke` and `end_session` end;
    as long as `publishes` is true; `denied_requests` are those that they reported. `organizations` says, by user id, to which a session may be
    switched, `strict_organizations` which of all want a sign-in of their own first.
    """

    __test__ = False

    def __init__(self, *, client_id: str = "client_test", api_key: str = "sk_test_gatewright", key: TestKey | None = None) -> None:
        self.client_id = client_id
        self.api_key = api_key
        self.cookie_password = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        # Making a key takes longer than all the rest; a suite with many issuers may share one.
        self.key = key or TestKey()
        self.published = [self.key]
        self.counts: Counter[str] = Counter()
        self.fault: Fault | None = None
        self.organizations: dict[str, set[str]] = {}
        self.strict_organizations: set[str] = set()
        self.rotated: dict[str, dict[str, Any]] = {}
        self._sessions: dict[str, dict[str, Any]] = {}
        self._ended: set[str] = set()
        self._refresh_tokens: dict[str, str] = {}
        self._codes: dict[str, str] = {}
        self._api_keys: dict[str, dict[str, Any]] = {}
        self.publishes = True
        self.denied_requests: list[dict[str, Any]] = []
        self._revocations: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.issuer = f"{self.url}/user_management/{client_id}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="gatewright-test-issuer", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the port; whoever waits for an answer gets none."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def settings(self, **more: Any) -> dict[str, Any]:
        """Arguments for `Gatewright(...)`; `more` are added and win."""
        return {
            "base_url": self.url,
            "client_id": self.client_id,
            "api_key": self.api_key,
            "cookie_password": self.cookie_password,
            **more,
        }

    # --- credentials ------------------------------------------------------------------------------------------------------

    def user_token(
        self,
        user_id: str = "user_test",
        *,
        session_id: str | None = None,
        role: str | None = None,
        roles: Sequence[str] = (),
        permissions: Sequence[str] = (),
        org: str | None = None,
        mfa: bool = False,
        signed_in_ago: float = 0,
        expires_in: float = 300,
        **claims: Any,
    ) -> str:
        """An access token of a person's session. `expires_in` below zero makes one that has expired; `claims` are added and win."""
        now = int(time.time())
        body: dict[str, Any] = {
            "iss": self.issuer,
            "sub": user_id,
            "sid": session_id or f"session_{secrets.token_hex(8)}",
            "jti": secrets.token_hex(8),
            "client_id": self.client_id,
            "iat": now - (max(0, int(-expires_in)) + 300 if expires_in <= 0 else 0),
            "exp": now + int(expires_in),
            "auth_time": now - int(signed_in_ago),
            "amr": METHODS[mfa],
            "acr": LEVELS[mfa],
        }
        every_role = [*([role] if role is not None else []), *roles]
        if every_role:
            body |= {"role": every_role[0], "roles": every_role}
        if permissions:
            body["permissions"] = list(permissions)
        if org is not None:
            body["org_id"] = org
        return self.sign({**body, **claims})

    def machine_token(
        self,
        client_id: str = "client_machine",
        *,
        scopes: Sequence[str] = (),
        org: str | None = None,
        expires_in: float = 300,
        **claims: Any,
    ) -> str:
        """An access token of a client that acts for itself."""
        now = int(time.time())
        body: dict[str, Any] = {
            "iss": self.url,
            "aud": self.client_id,
            "sub": client_id,
            "client_id": client_id,
            "jti": secrets.token_hex(8),
            "iat": now - (max(0, int(-expires_in)) + 300 if expires_in <= 0 else 0),
            "exp": now + int(expires_in),
        }
        if scopes:
            body["scope"] = " ".join(scopes)
        if org is not None:
            body["org_id"] = org
        return self.sign({**body, **claims})

    def new_api_key(self, *, permissions: Sequence[str] = (), org: str | None = "org_test") -> str:
        """The value of an API key that the server will confirm."""
        value = f"sk_{secrets.token_hex(24)}"
        owner = {"type": "organization", "id": org}
        self._api_keys[value] = {
            "object": "api_key",
            "id": f"api_key_{secrets.token_hex(6)}",
            "owner": owner,
            "name": "test",
            "obfuscated_value": f"sk_...{value[-4:]}",
            "permissions": list(permissions),
            "last_used_at": None,
            "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z",
        }
        return value

    def cookies(
        self, gw: Engine, user_id: str = "user_test", *, email: str = "test@example.com", expires_in: float = 300, **token: Any
    ) -> dict[str, str]:
        """The cookies of a signed-in browser, for `TestClient(app, cookies=...)`; more arguments as in `user_token`. With `expires_in` below zero
        the access token has expired and the first request renews the session.
        """
        session_id = token.pop("session_id", None) or f"session_{secrets.token_hex(8)}"
        refresh_token = self._open_session(session_id, {"user_id": user_id, "email": email, **token})
        access_token = self.user_token(user_id, session_id=session_id, expires_in=expires_in, **token)
        return self.seal(gw, access_token, refresh_token, self._user(user_id, email))

    def seal(self, gw: Engine, access_token: str, refresh_token: str, user: dict[str, Any]) -> dict[str, str]:
        """The session cookies that hold these."""
        headers = gw.core.seal_session(access_token, refresh_token, json.dumps(user))
        return dict(header.split(";", 1)[0].split("=", 1) for header in headers)

    def code(self, user_id: str = "user_test", *, email: str = "test@example.com", **token: Any) -> str:
        """A code as the sign-in page gives it: request `<callback>?code=..&state=..` with it."""
        session_id = f"session_{secrets.token_hex(8)}"
        code = secrets.token_hex(12)
        self._codes[code] = self._open_session(session_id, {"user_id": user_id, "email": email, **token})
        return code

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None, *, key: TestKey | None = None) -> str:
        """A JWT with exactly these claims; `header` replaces the usual one. With another `key`, a forged one."""
        return (key or self.key).sign(json.dumps(claims), None if header is None else json.dumps(header))

    def rotate(self) -> None:
        """Signs with a new key from now on; the old one stays published."""
        self.key = TestKey()
        self.published.append(self.key)

    def end_session(self, session_id: str, *, publish: bool = True) -> None:
        """As if the person had signed out: no longer listed, no longer renewed, and guards hear of it, unless `publish` is false: then they
        find out when they ask.
        """
        self._ended.add(session_id)
        if publish:
            self.revoke(session_id=session_id)

    def revoke(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        organization_id: str | None = None,
        client_id: str | None = None,
        key_id: str | None = None,
    ) -> None:
        """Publishes revocations, as the server does when access ends. With `organization_id`, of the user the membership there; `key_id`:
        of a signing key or an API key.
        """
        named = {"session": session_id, "client": client_id, "api_key": key_id}
        if user_id is not None:
            named["user" if organization_id is None else "organization_membership"] = user_id
        now = datetime.now(timezone.utc)
        with self._news:
            for kind, subject in named.items():
                if subject is not None:
                    self._revocations.append(
                        {
                            "object": "revocation",
                            "id": f"revocation_{len(self._revocations) + 1}",
                            "kind": kind,
                            "subject": subject,
                            "user_id": user_id,
                            "organization_id": organization_id,
                            "revoked_at": now.isoformat(),
                            "expires_at": (now + timedelta(seconds=600)).isoformat(),
                        }
                    )
            self._news.notify_all()

    # --- answers ----------------------------------------------------------------------------------------------------------

    def _open_session(self, session_id: str, facts: dict[str, Any]) -> str:
        refresh_token = secrets.token_hex(16)
        self._sessions[session_id] = facts
        self._refresh_tokens[refresh_token] = session_id
        return refresh_token

    def _refuse_organization(self, user_id: str, wanted: str) -> str | None:
        if wanted in self.strict_organizations:
            return "sso_required"
        return None if wanted in self.organizations.get(user_id, ()) else "organization_membership_not_found"

    def _user(self, user_id: str, email: str) -> dict[str, Any]:
        return {
            "object": "user",
            "id": user_id,
            "email": email,
            "first_name": "Test",
            "last_name": "Person",
            "email_verified": True,
            "profile_picture_url": None,
            "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z",
        }

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        keys = {"keys": [json.loads(key.jwk()) for key in self.published]}
        if path in (f"/sso/jwks/{self.client_id}", "/oauth2/jwks"):
            return 200, keys
        if path == "/user_management/authenticate":
            return self._authenticate(body)
        if path.startswith("/user_management/users/") and path.endswith("/sessions"):
            user_id = path.split("/")[3]
            alive = [
                {"object": "session", "id": session_id, "user_id": user_id, "status": "active"}
                for session_id, facts in self._sessions.items()
                if facts["user_id"] == user_id and session_id not in self._ended
            ]
            return 200, {"object": "list", "data": alive, "list_metadata": {"before": None, "after": None}}
        if path == "/revocations":
            if not self.publishes:
                return 503, {"message": "planted"}
            since = self._revocations[int((query.get("after") or ["0"])[0]) :]
            return 200, {"object": "list", "data": since, "list_metadata": {"after": str(len(self._revocations)), "has_more": False}}
        if path == "/guard/denied_requests":
            self.denied_requests += body["denied_requests"]
            return 202, {"accepted": len(body["denied_requests"])}
        if path == "/api_keys/validations":
            return 200, {"api_key": self._api_keys.get(str(body.get("value")))}
        return 404, {"message": f"no such path: {method} {path}"}

    def _authenticate(self, body: dict[str, Any]) -> tuple[int, Any]:
        grant = body.get("grant_type")
        with self._lock:
            if grant == "authorization_code":
                refresh_token = self._codes.pop(str(body.get("code")), None)
            else:
                refresh_token = str(body.get("refresh_token"))
                if refresh_token in self.rotated:
                    return 200, self.rotated[refresh_token]
            session_id = self._refresh_tokens.pop(refresh_token or "", None)
            if session_id is None or session_id in self._ended:
                return 400, {"error": "invalid_grant", "error_description": "The session has ended."}
            wanted = body.get("organization_id")
            if wanted is not None and (refused := self._refuse_organization(self._sessions[session_id]["user_id"], wanted)):
                self._refresh_tokens[str(refresh_token)] = session_id
                return 400, {"error": refused, "error_description": "The session cannot act for this organization."}
            if wanted is not None:
                self._sessions[session_id]["org"] = wanted
            facts = dict(self._sessions[session_id])
            successor = secrets.token_hex(16)
            self._refresh_tokens[successor] = session_id
            user_id, email = facts.pop("user_id"), facts.pop("email")
            answer = {
                "user": self._user(user_id, email),
                "access_token": self.user_token(user_id, session_id=session_id, **facts),
                "refresh_token": successor,
                "organization_id": facts.get("org"),
                "authentication_method": "Password",
            }
            if grant == "refresh_token":
                self.rotated[str(refresh_token)] = answer
        return 200, answer


def _handler_for(issuer: TestIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two writes; without this each answer waits for a delayed acknowledgement.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.respond("GET", {})

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("content-length") or 0))
            if "json" in (self.headers.get("content-type") or ""):
                self.respond("POST", json.loads(text or b"{}"))
            else:
                self.respond("POST", {name: values[0] for name, values in parse_qs(text.decode()).items()})

        def respond(self, method: str, body: dict[str, Any]) -> None:
            parts = urlsplit(self.path)
            with issuer._lock:
                issuer.counts[parts.path] += 1
            fault = issuer.fault
            if fault == "hang":
                issuer._closing.wait(60)
            # Connections that clients keep open outlive the port.
            if fault == "hang" or issuer._closing.is_set():
                self.close_connection = True
                return
            if fault == "slow":
                issuer._closing.wait(1)
            if (
                fault is None
                and issuer.publishes
                and parts.path == "/revocations"
                and "text/event-stream" in (self.headers.get("accept") or "")
            ):
                with suppress(OSError):  # The guard hung up.
                    self.tell_revocations(int((parse_qs(parts.query).get("after") or ["0"])[0]))
                self.close_connection = True
                return
            if fault == "garbage":
                status, text = 200, b"<html>not what you asked for</html>"
            elif fault == "error":
                status, text = 500, b'{"message":"planted"}'
            else:
                status, answer = issuer._answer(method, parts.path, parse_qs(parts.query), body)
                text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def tell_revocations(self, told: int) -> None:
            """Server-sent events: what there is, then what comes, and a beat when nothing does."""
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            is_ready, beat_at = False, time.monotonic() + 2
            while issuer.publishes and issuer.fault is None and not issuer._closing.is_set():
                with issuer._news:
                    if is_ready and told == len(issuer._revocations):
                        issuer._news.wait(0.2)
                    news = issuer._revocations[told:]
                lines: list[str] = []
                for one in news:
                    told += 1
                    lines.append(f"event: revocation\nid: {told}\ndata: {json.dumps(one)}\n\n")
                if not is_ready:
                    is_ready = True
                    lines.append(f'event: ready\nid: {told}\ndata: {{"cursor":"{told}"}}\n\n')
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + 2
                    lines.append(f'event: beat\ndata: {{"cursor":"{told}"}}\n\n')
                if lines:
                    self.wfile.write("".join(lines).encode())
                    self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the tests speak."""

    return Handler
