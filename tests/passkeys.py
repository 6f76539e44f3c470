"""An authenticator in software: makes one passkey (ES256) and signs in with it, as a browser would ask it to."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from hosted_pages import Browser, authorize_url, complete
from running_server import Server

PRESENT_VERIFIED = 0x01 | 0x04
ATTESTED = 0x40


def encode(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def cbor(value: Any) -> bytes:
    """As much as attestation objects need."""
    kinds: dict[type, int] = {bytes: 2, str: 3, dict: 5}
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    octets = value.encode() if isinstance(value, str) else value
    if isinstance(octets, dict):
        return _head(5, len(octets)) + b"".join(cbor(key) + cbor(item) for key, item in octets.items())
    return _head(kinds[type(value)], len(octets)) + bytes(octets)


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    length = 1 if argument < 1 << 8 else 2
    return bytes([major << 5 | 23 + length]) + argument.to_bytes(length, "big")


@dataclass
class Authenticator:
    origin: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: os.urandom(32))
    user_handle: str = ""

    def register(self, options: dict[str, Any]) -> dict[str, Any]:
        """`RegistrationResponseJSON`."""
        self.user_handle = options["user"]["id"]
        point = self.key.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        credential = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor(key)
        data = self._data(options["rp"]["id"], ATTESTED) + credential
        answer = {"attestationObject": encode(cbor({"fmt": "none", "attStmt": {}, "authData": data})), "transports": ["internal"]}
        return self._credential({**answer, "clientDataJSON": encode(self._client_data("webauthn.create", options["challenge"]))})

    def sign_in(self, options: dict[str, Any]) -> dict[str, Any]:
        """`AuthenticationResponseJSON`."""
        client_data, data = self._client_data("webauthn.get", options["challenge"]), self._data(options["rpId"])
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256()))
        answer = {"authenticatorData": encode(data), "signature": encode(signature), "userHandle": self.user_handle}
        return self._credential({**answer, "clientDataJSON": encode(client_data)})

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        id = encode(self.credential_id)
        return {"id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {}, "response": response}

    def _client_data(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}).encode()

    def _data(self, rp_id: str, more: int = 0) -> bytes:
        return hashlib.sha256(rp_id.encode()).digest() + bytes([PRESENT_VERIFIED | more]) + bytes(4)


def make_passkey(server: Server, client_id: str, email: str, password: str, name: str = "") -> tuple[Authenticator, dict[str, Any]]:
    """A passkey of somebody who signs in with a password, and how the server shows it."""
    browser, authenticator = Browser(), Authenticator(server.url)
    page = browser.open(authorize_url(server, client_id=client_id))
    fields = {"csrf": next(f.value for form in page.forms for f in form.fields if f.name == "csrf"), "client_id": client_id}
    complete(browser, server, page, email=email, password=password)
    asked = browser.post(f"{server.url}/passkeys/registration/options", fields).response
    assert asked.status_code == 200, asked.text
    credential = json.dumps(authenticator.register(asked.json()["publicKey"]))
    made = browser.post(f"{server.url}/passkeys/registration", {**fields, "credential": credential, "name": name}).response
    assert made.status_code == 201, made.text
    return authenticator, made.json()
