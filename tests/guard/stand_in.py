"""A server in Gatewright's place whose keys and moods the test holds: it signs anything, and answers well, late, wrongly or not at all."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from workos.session import seal_session_from_auth_response

USER = {
    "object": "user",
    "id": "user_01STANDIN0000000000000000",
    "email": "ann@example.test",
    "email_verified": True,
    "first_name": "Ann",
    "last_name": "Archer",
    "profile_picture_url": None,
    "last_sign_in_at": None,
    "external_id": None,
    "metadata": {},
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def fields(self) -> dict[str, str]:
        """The body, JSON or form."""
        if self.body.startswith("{"):
            return {k: v for k, v in json.loads(self.body).items() if isinstance(v, str)}
        return {k: v[0] for k, v in parse_qs(self.body).items()}


@dataclass
class StandIn:
    port: int = 0
    client_id: str = "client_01STANDIN0000000000000000"
    api_key: str = "sk_test_standin"
    cookie_password: str = field(default_factory=lambda: Fernet.generate_key().decode())
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    kid: str = field(default_factory=lambda: f"key_{secrets.token_hex(6)}")
    # Published beside `key`.
    more_keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    # What is in tokens that /user_management/authenticate gives.
    extra_claims: dict[str, Any] = field(default_factory=dict)
    # What it says of the user beside USER.
    extra_user: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    # Mood by the beginning of the path ("" is for every path), or by the refresh token presented; see `Answers.be_well` and the rest.
    moods: dict[str, str] = field(default_factory=dict)
    released: threading.Event = field(default_factory=threading.Event)
    sessions: dict[str, str] = field(default_factory=dict)
    # By value, what /api_keys/validations says of a key.
    api_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    _server: Listening | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        return f"{self.url}/user_management/{self.client_id}"

    def start(self) -> None:
        """Listens; again on the same port after `stop`."""
        assert self._server is None
        handler = type("Answers", (Answers,), {"stand_in": self})
        self._server = Listening(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuses connections from now on, and cuts those that are open."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None

    def list_requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if urlsplit(seen.path).path == path]

    @property
    def refreshes(self) -> list[Seen]:
        return [s for s in self.list_requests("/user_management/authenticate") if s.fields.get("grant_type") == "refresh_token"]

    @property
    def key_fetches(self) -> list[Seen]:
        return self.list_requests(f"/sso/jwks/{self.client_id}")

    def session_claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of an access token as the real server makes them; a change to None leaves a claim out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": USER["id"],
            "sid": f"session_{secrets.token_hex(13).upper()}",
            "jti": secrets.token_hex(13).upper(),
            "client_id": self.client_id,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            **self.extra_claims,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def mint(self, claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A session's access token, signed with the published key."""
        return sign({"alg": "RS256", "typ": "JWT", "kid": self.kid, **(header or {})}, claims or self.session_claims(**changes), self.key)

    def expired_claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        return self.session_claims(iat=now - 900, exp=now - 600, auth_time=now - 900, **changes)

    def seal(self, access_token: str, refresh_token: str | None = None) -> str:
        """The cookie as the Python SDK seals it, with a refresh token that this server honours."""
        refresh_token = refresh_token or self.grant_refresh(claims_of(access_token).get("sid") or "session_none")
        return seal_session_from_auth_response(
            access_token=access_token, refresh_token=refresh_token, user=USER, cookie_password=self.cookie_password
        )

    def grant_refresh(self, session_id: str) -> str:
        token = secrets.token_urlsafe(24)
        self.sessions[token] = session_id
        return token

    def public_pem(self) -> bytes:
        public = self.key.public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        return {**public_jwk(self.key, self.kid), **changes}

    # What it answers when it is well.

    def decide_answer(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        path = urlsplit(seen.path).path
        if path in {f"/sso/jwks/{self.client_id}", "/oauth2/jwks"}:
            keys = [self.jwk(), *(public_jwk(key, kid) for kid, key in self.more_keys.items())]
            return 200, {"content-type": "application/json", "cache-control": "public, max-age=300"}, dump({"keys": keys})
        if path == "/user_management/authenticate":
            return self._authenticate(seen)
        if path == "/user_management/authorize":
            asked = {k: v[0] for k, v in parse_qs(urlsplit(seen.path).query).items()}
            back = {"code": f"code_{secrets.token_hex(8)}", "state": asked.get("state", "")}
            return 302, {"location": f"{asked['redirect_uri']}?{urlencode(back)}"}, b""
        if path == "/user_management/sessions/logout":
            asked = {k: v[0] for k, v in parse_qs(urlsplit(seen.path).query).items()}
            return 302, {"location": asked.get("return_to", "/")}, b""
        if path == "/api_keys/validations":
            if seen.headers.get("authorization") != f"Bearer {self.api_key}":
                return json_answer(401, {"message": "Unauthorized"})
            return json_answer(200, {"api_key": self.api_keys.get(seen.fields.get("value", ""))})
        return json_answer(404, {"message": "Not Found"})

    def _authenticate(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        fields = seen.fields
        if fields.get("grant_type") == "refresh_token":
            session = self.sessions.get(fields.get("refresh_token", ""))
            if session is None:
                return json_answer(400, {"error": "invalid_grant", "error_description": "Session has already ended."})
        else:
            session = f"session_{secrets.token_hex(13).upper()}"
        answer = {
            "user": {**USER, **self.extra_user},
            "access_token": self.mint(sid=session),
            "refresh_token": self.grant_refresh(session),
            "authentication_method": "Password",
        }
        return json_answer(200, answer)


class Listening(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that give up are what several tests are about

    def cut(self) -> None:
        for wire in list(self._open):
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


class Answers(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode(errors="replace")
        seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.stand_in.seen.append(seen)
        moods = self.stand_in.moods
        by_path = next((moods[start] for start in sorted(moods, key=len, reverse=True) if self.path.startswith(start)), "well")
        token = seen.fields.get("refresh_token", "") if self.command == "POST" else ""
        getattr(self, f"be_{moods.get(token, by_path) if token else by_path}")(seen)

    do_GET = do_POST = answer

    def log_message(self, *_: Any) -> None:
        pass

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def be_well(self, seen: Seen) -> None:
        self.send(*self.stand_in.decide_answer(seen))

    def be_hanging(self, seen: Seen) -> None:
        """Takes the request and says nothing until the test lets it go on."""
        self.stand_in.released.wait(60)
        self.close_connection = True

    def be_trickling(self, seen: Seen) -> None:
        """A right answer, an octet at a time: every read succeeds, the whole never comes."""
        status, headers, body = self.stand_in.decide_answer(seen)
        self.send_response_only(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            for octet in body:
                self.wfile.write(bytes([octet]))
                if self.stand_in.released.wait(0.1):
                    return

    def be_garbled(self, seen: Seen) -> None:
        self.send(200, {"content-type": "application/json"}, b'{"keys": [\xff\xfe' + os.urandom(200))

    def be_html(self, seen: Seen) -> None:
        self.send(200, {"content-type": "text/html"}, b"<!doctype html><title>Please sign in to the network</title>")

    def be_broken(self, seen: Seen) -> None:
        self.send(500, {"content-type": "text/plain"}, b"Internal Server Error")

    def be_busy(self, seen: Seen) -> None:
        self.send(429, {"content-type": "application/json", "retry-after": "7"}, b'{"message": "Slow down."}')

    def be_keyless(self, seen: Seen) -> None:
        self.send(200, {"content-type": "application/json"}, b'{"keys": []}')

    def be_indiscreet(self, seen: Seen) -> None:
        """A key set with a private key in it."""
        private = self.stand_in.key.private_numbers()
        jwk = self.stand_in.jwk(d=b64_number(private.d), p=b64_number(private.p), q=b64_number(private.q))
        self.send(200, {"content-type": "application/json"}, dump({"keys": [jwk]}))

    def be_elsewhere(self, seen: Seen) -> None:
        self.send(302, {"location": f"http://localhost:{self.stand_in.port}/elsewhere"}, b"")

    def be_endless(self, seen: Seen) -> None:
        """JSON that never ends: an array of zeros for as long as somebody reads."""
        self.send_response_only(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            self.wfile.write(b'{"keys": [')
            for _ in range(4096):
                self.wfile.write(b"0," * 8192)

    def be_short(self, seen: Seen) -> None:
        """Promises more than it sends."""
        self.send_response_only(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "5000")
        self.end_headers()
        self.wfile.write(b'{"keys": [')
        self.close_connection = True


@contextmanager
def stand_in(**options: Any) -> Iterator[StandIn]:
    server = StandIn(**options)
    server.start()
    try:
        yield server
    finally:
        server.released.set()
        server.stop()


# Tokens by hand: libraries refuse to make the wrong ones.


def sign(header: dict[str, Any], claims: dict[str, Any] | str, key: rsa.RSAPrivateKey) -> str:
    head = b64(dump(header)) + "." + b64(claims.encode() if isinstance(claims, str) else dump(claims))
    return f"{head}.{b64(key.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def public_jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": b64_number(numbers.n), "e": b64_number(numbers.e)}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def b64_number(number: int) -> str:
    return b64(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def json_answer(status: int, value: Any) -> tuple[int, dict[str, str], bytes]:
    return status, {"content-type": "application/json"}, dump(value)
