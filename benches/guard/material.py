"""Keys, cookies and tokens: made once for a run by `mint`, read by every contender with `load`."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

COOKIE = "wos_session"
CLIENT_ID = "client_01JBENCH0000000000000000AA"
USER_ID = "user_01JBENCH0000000000000000BB"
FASTAPI_USERS_ID = "6f1c2a52-6f0e-4bd8-9e55-b0a4cf6f4f0e"
LIFETIME = 3600
"""Seconds; the longest run is over long before."""


@functools.cache
def load() -> SimpleNamespace:
    """What `mint` wrote into the folder that BENCH_MATERIAL names."""
    folder = Path(os.environ["BENCH_MATERIAL"])
    return SimpleNamespace(folder=folder, **json.loads((folder / "material.json").read_text()))


def mint(base_url: str, folder: Path, distinct: int) -> None:
    """`distinct` is the number of cookies and tokens that differ, for what a guard does at first sight."""
    import jwt
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "n": unsigned(numbers.n), "e": unsigned(numbers.e)}
    thumbprint = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    jwk["kid"] = base64url(hashlib.sha256(thumbprint.encode()).digest())[:22]
    password = Fernet.generate_key().decode()
    now = int(time.time())

    def token(number: int, kid: str = jwk["kid"]) -> str:
        claims = {
            "iss": f"{base_url}/user_management/{CLIENT_ID}",
            "sub": USER_ID,
            "sid": f"session_01JBENCH{number:018d}",
            "jti": f"01JBENCH{number:018d}",
            "client_id": CLIENT_ID,
            "org_id": "org_01JBENCH0000000000000000CC",
            "role": "member",
            "roles": ["member"],
            "permissions": ["expenses:read", "expenses:write"],
            "auth_time": now,
            "iat": now,
            "exp": now + LIFETIME,
        }
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})

    def cookie(access_token: str) -> str:
        session = {"access_token": access_token, "refresh_token": "r" * 43, "user": USER}
        return Fernet(password).encrypt(json.dumps(session).encode()).decode()

    tokens = [token(number) for number in range(distinct)]
    strange = token(0, kid="a-key-nobody-published")
    forged = tokens[0][:-8] + ("AAAAAAAA" if tokens[0][-8:] != "AAAAAAAA" else "BBBBBBBB")
    secret = "a secret of thirty-two octets or more, for HS256"
    claims = {"sub": FASTAPI_USERS_ID, "aud": ["fastapi-users:auth"], "exp": now + LIFETIME}
    material = {
        "base_url": base_url,
        "client_id": CLIENT_ID,
        "cookie_password": password,
        "secret": secret,
        "keys": {"keys": [jwk]},
        "cookies": [cookie(token) for token in tokens],
        "forged_cookie": cookie(forged),
        "strange_cookie": cookie(strange),
        "tokens": tokens,
        "forged_token": forged,
        "strange_token": strange,
        "hs256_token": jwt.encode(claims, secret, algorithm="HS256"),
        "hs256_forged_token": jwt.encode(claims, secret[::-1], algorithm="HS256"),
        "expected": json.dumps({"id": USER_ID}, separators=(",", ":")),
    }
    (folder / "material.json").write_text(json.dumps(material))


USER: dict[str, Any] = {
    "object": "user",
    "id": USER_ID,
    "email": "ada.lovelace@example.com",
    "email_verified": True,
    "first_name": "Ada",
    "last_name": "Lovelace",
    "profile_picture_url": None,
    "last_sign_in_at": "2026-01-01T00:00:00.000Z",
    "external_id": None,
    "metadata": {},
    "locale": None,
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}


def base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unsigned(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


if __name__ == "__main__":
    mint(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
