"""Tokens that no app may take, each one step away from a good one (attack list, rows 16 to 18)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from guard.stand_in import StandIn, b64, dump, public_jwk, sign

Forge = Callable[[StandIn], str]
FORGED: dict[str, Forge] = {}
STRANGER = rsa.generate_private_key(65537, 2048)
# Nobody may ever fetch from here: a test looks.
TRAP = "/trap/keys.json"


def forge(name: str) -> Callable[[Forge], Forge]:
    def add(builder: Forge) -> Forge:
        assert name not in FORGED
        FORGED[name] = builder
        return builder

    return add


def with_header(**header: Any) -> Forge:
    """Signed with the right key: only the header is wrong. A value of None leaves the parameter out."""

    def build(s: StandIn) -> str:
        given = {"alg": "RS256", "typ": "JWT", "kid": s.kid, **header}
        return sign({k: v for k, v in given.items() if v is not None}, s.session_claims(), s.key)

    return build


def with_claims(**changes: Any) -> Forge:
    return lambda s: s.mint(**changes)


def from_stranger(**header: Any) -> Forge:
    """Signed with a key of the attacker's that calls itself ours."""
    return lambda s: sign({"alg": "RS256", "typ": "JWT", "kid": s.kid, **header}, s.session_claims(), STRANGER)


def unsigned(alg: str, signature: str = "", **header: Any) -> Forge:
    return lambda s: b64(dump({"alg": alg, "typ": "JWT", "kid": s.kid, **header})) + "." + b64(dump(s.session_claims())) + "." + signature


def with_mac(secret_of: Callable[[StandIn], bytes], alg: str = "HS256") -> Forge:
    """The public key, which everybody has, as the secret of a MAC."""

    def build(s: StandIn) -> str:
        head = b64(dump({"alg": alg, "typ": "JWT", "kid": s.kid})) + "." + b64(dump(s.session_claims()))
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
        return head + "." + b64(hmac.new(secret_of(s), head.encode(), digest).digest())

    return build


def with_parts(change: Callable[[list[str]], list[str]]) -> Forge:
    return lambda s: ".".join(change(s.mint().split(".")))


def signed_text(text: Callable[[StandIn], str]) -> Forge:
    """A payload written by hand, signed with the right key."""
    return lambda s: sign({"alg": "RS256", "typ": "JWT", "kid": s.kid}, text(s), s.key)


def spki(s: StandIn) -> bytes:
    return s.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def now() -> int:
    return int(time.time())


def without_last(text: str) -> str:
    return text[1:-1]


def self_signed() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gatewright")])
    made = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, STRANGER.public_key(), x509.random_serial_number(), made, made + timedelta(days=1))
    return base64.b64encode(builder.sign(STRANGER, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()


for alg in ("none", "None", "NONE", "nOnE"):
    FORGED[f"alg {alg} without a signature"] = unsigned(alg)
FORGED |= {
    # Algorithms
    "alg none that keeps a signature": lambda s: unsigned("none", s.mint().split(".")[2])(s),
    "alg none without a kid": unsigned("none", kid=""),
    "alg empty": unsigned(""),
    "no alg": with_header(alg=None),
    "alg in lower case": with_header(alg="rs256"),
    "alg as a list": with_header(alg=["RS256"]),
    "HS256 with the public key in PEM": with_mac(StandIn.public_pem),
    "HS256 with the public key in PEM without the last line end": with_mac(lambda s: s.public_pem().strip()),
    "HS256 with the public key in DER": with_mac(spki),
    "HS256 with the modulus": with_mac(lambda s: s.key.public_key().public_numbers().n.to_bytes(256, "big")),
    "HS256 with the published JWK": with_mac(lambda s: dump(s.jwk())),
    "HS256 with an empty secret": with_mac(lambda s: b""),
    "HS256 with the client id": with_mac(lambda s: s.client_id.encode()),
    "HS384 with the public key": with_mac(StandIn.public_pem, "HS384"),
    "HS512 with the public key": with_mac(StandIn.public_pem, "HS512"),
    # Keys
    "another key under our kid": from_stranger(),
    "another key in jwk": lambda s: from_stranger(jwk=public_jwk(STRANGER, s.kid))(s),
    "another key in jwk and no kid": lambda s: from_stranger(kid=None, jwk=public_jwk(STRANGER, "x"))(s),
    "another key in jku": lambda s: from_stranger(jku=s.url + TRAP)(s),
    "another key in jku and its own kid": lambda s: from_stranger(jku=s.url + TRAP, kid="trap")(s),
    "another key in x5u": lambda s: from_stranger(x5u=s.url + TRAP)(s),
    "another key in x5c": from_stranger(x5c=[self_signed()]),
    "no kid": with_header(kid=None),
    "kid empty": with_header(kid=""),
    "kid a number": with_header(kid=1),
    "kid a list": lambda s: with_header(kid=[s.kid])(s),
    "kid a path": from_stranger(kid="../../../../../../dev/null"),
    "kid SQL": from_stranger(kid="' UNION SELECT 'x' --"),
    "kid with a line end": from_stranger(kid="a\r\nx-injected: 1"),
    "kid of 4000 letters": from_stranger(kid="k" * 4000),
    "kid in another case": lambda s: with_header(kid=s.kid.swapcase())(s),
    # Header
    "crit with an unknown name": with_header(crit=["exp-policy"], **{"exp-policy": 1}),
    "crit empty": with_header(crit=[]),
    "crit text": with_header(crit="exp"),
    "crit b64 with b64 false": with_header(crit=["b64"], b64=False),
    "typ of an ID token of some providers": with_header(typ="id_token+jwt"),
    "typ of a logout token": with_header(typ="logout+jwt"),
    "typ of a security event": with_header(typ="secevent+jwt"),
    "typ of a DPoP proof": with_header(typ="dpop+jwt"),
    "typ of a client assertion": with_header(typ="client-authentication+jwt"),
    "typ a number": with_header(typ=1),
    "cty JWT around another token": lambda s: sign({"alg": "RS256", "typ": "JWT", "cty": "JWT", "kid": s.kid}, s.mint(), s.key),
    # Time
    "expired": lambda s: s.mint(s.expired_claims()),
    "exp missing": with_claims(exp=None),
    "exp text": lambda s: with_claims(exp=str(now() + 300))(s),
    "exp true": with_claims(exp=True),
    "exp negative": with_claims(exp=-1),
    "exp null": signed_text(lambda s: "{" + f'"exp":null,{without_last(json.dumps(s.session_claims(exp=None)))}' + "}"),
    "exp infinite": signed_text(lambda s: "{" + f'"exp":1e999,{without_last(json.dumps(s.session_claims(exp=None)))}' + "}"),
    "exp not a number": signed_text(lambda s: "{" + f'"exp":NaN,{without_last(json.dumps(s.session_claims(exp=None)))}' + "}"),
    "nbf in an hour": lambda s: with_claims(nbf=now() + 3600)(s),
    "iat in an hour": lambda s: with_claims(iat=now() + 3600, exp=now() + 7200)(s),
    # Issuer, audience, purpose
    "iss missing": with_claims(iss=None),
    "iss with a slash at the end": lambda s: with_claims(iss=s.issuer + "/")(s),
    "iss without the client": lambda s: with_claims(iss=f"{s.url}/user_management")(s),
    "iss in another case": lambda s: with_claims(iss=s.issuer.upper())(s),
    "iss longer than ours": lambda s: with_claims(iss=s.issuer + "X")(s),
    "iss of another client": lambda s: with_claims(iss=f"{s.url}/user_management/client_01OTHER000000000000000000")(s),
    "iss as a list": lambda s: with_claims(iss=[s.issuer])(s),
    "iss of a stranger": with_claims(iss="https://evil.example"),
    "aud of another client": with_claims(aud="client_01OTHER000000000000000000"),
    "aud of other clients": with_claims(aud=["client_01OTHER000000000000000000", "https://api.other.example/"]),
    "aud empty": with_claims(aud=[]),
    "aud a number": with_claims(aud=1),
    "sub missing": with_claims(sub=None),
    "sub empty": with_claims(sub=""),
    "sub a number": with_claims(sub=1),
    "sub a list": with_claims(sub=["user_01STANDIN0000000000000000"]),
    "sid missing": with_claims(sid=None),
    "sid of an application's consent": with_claims(sid="app_consent_01STANDIN000000000000"),
    "sid empty": with_claims(sid=""),
    "sid a number": with_claims(sid=7),
    # Form
    "signature missing": with_parts(lambda p: [p[0], p[1], ""]),
    "two parts": with_parts(lambda p: p[:2]),
    "four parts": with_parts(lambda p: [*p, p[2]]),
    "five parts": with_parts(lambda p: [*p, "", ""]),
    "signature cut short": with_parts(lambda p: [p[0], p[1], p[2][:-4]]),
    "signature of zeros": with_parts(lambda p: [p[0], p[1], b64(bytes(256))]),
    "signature longer by an octet": with_parts(lambda p: [p[0], p[1], b64(b"\0" + base64.urlsafe_b64decode(p[2] + "=="))]),
    "signature padded": with_parts(lambda p: [p[0], p[1], p[2] + "=="]),
    "payload padded": with_parts(lambda p: [p[0], p[1] + "=", p[2]]),
    "payload of another token": lambda s: ".".join([*s.mint().split(".")[:1], s.mint().split(".")[1], s.mint().split(".")[2]]),
    "header changed after signing": with_parts(lambda p: [b64(dump({"alg": "RS256", "typ": "JWT", "kid": "x"})), p[1], p[2]]),
    "payload of nothing": with_parts(lambda p: [p[0], "", p[2]]),
    "payload a list": signed_text(lambda s: json.dumps([s.session_claims()])),
    "payload text": signed_text(lambda s: json.dumps("user_01STANDIN0000000000000000")),
    "payload no JSON": signed_text(lambda s: "sub=user_01STANDIN0000000000000000"),
    "payload with two subs": signed_text(lambda s: '{"sub":"user_01VICTIM",' + json.dumps(s.session_claims())[1:]),
    "payload with two exps": signed_text(lambda s: f'{{"exp":{now() + 300},' + json.dumps(s.expired_claims())[1:]),
    "payload with two subs, one escaped": signed_text(lambda s: '{"\\u0073ub":"user_01VICTIM",' + json.dumps(s.session_claims())[1:]),
    "payload with something after it": signed_text(lambda s: json.dumps(s.session_claims()) + "{}"),
    "payload cut short": signed_text(lambda s: json.dumps(s.session_claims())[:-1]),
    "payload nested 3000 deep": signed_text(lambda s: json.dumps(s.session_claims())[:-1] + ',"x":' + "[" * 3000 + "]" * 3000 + "}"),
    "payload of 40 kB": with_claims(padding="x" * 40_000),
    "dots": lambda s: "." * 200,
    "two dots": lambda s: "..",
    "letters": lambda s: "a" * 300,
}


@forge("RS256 under the name PS256")
def _(s: StandIn) -> str:
    return with_header(alg="PS256")(s)


@forge("PS256 with the published key")
def _(s: StandIn) -> str:
    head = b64(dump({"alg": "PS256", "typ": "JWT", "kid": s.kid})) + "." + b64(dump(s.session_claims()))
    signature = s.key.sign(head.encode(), padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    return f"{head}.{b64(signature)}"


@forge("RS512 with the published key")
def _(s: StandIn) -> str:
    head = b64(dump({"alg": "RS512", "typ": "JWT", "kid": s.kid})) + "." + b64(dump(s.session_claims()))
    return f"{head}.{b64(s.key.sign(head.encode(), padding.PKCS1v15(), hashes.SHA512()))}"


@forge("SHA-1 under the name RS256")
def _(s: StandIn) -> str:
    head = b64(dump({"alg": "RS256", "typ": "JWT", "kid": s.kid})) + "." + b64(dump(s.session_claims()))
    return f"{head}.{b64(s.key.sign(head.encode(), padding.PKCS1v15(), hashes.SHA1()))}"


@forge("header with two algs")
def _(s: StandIn) -> str:
    head = b64(b'{"alg":"none",' + dump({"alg": "RS256", "typ": "JWT", "kid": s.kid})[1:]) + "." + b64(dump(s.session_claims()))
    return f"{head}.{b64(s.key.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@forge("signature whose last letter carries spare bits")
def _(s: StandIn) -> str:
    """Two spellings of one signature: a deny-list of tokens would miss the second."""
    token = s.mint()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) ^ 1]
    assert base64.urlsafe_b64decode(token.split(".")[2] + "==") == base64.urlsafe_b64decode((token[:-1] + other).split(".")[2] + "==")
    return token[:-1] + other


@forge("JSON serialization")
def _(s: StandIn) -> str:
    head, payload, signature = s.mint().split(".")
    return json.dumps({"protected": head, "payload": payload, "signature": signature}, separators=(",", ":"))


@forge("ID token of ours, with nonce")
def _(s: StandIn) -> str:
    return s.mint({**id_token_claims(s), "nonce": "n-0S6_WzA2Mj"})


@forge("ID token of ours, with at_hash")
def _(s: StandIn) -> str:
    return s.mint({**id_token_claims(s), "at_hash": "77QmUPtjPfzWtF2AnpK9RQ"})


@forge("ID token of ours, bare")
def _(s: StandIn) -> str:
    return s.mint(id_token_claims(s))


@forge("ID token of ours that calls the session its issuer")
def _(s: StandIn) -> str:
    return s.mint({**id_token_claims(s), "iss": s.issuer, "nonce": "n-0S6_WzA2Mj"})


@forge("access token of a client of ours, for another resource")
def _(s: StandIn) -> str:
    claims = {**s.session_claims(), "iss": s.url, "aud": "https://mcp.example.test/", "scope": "openid", "sid": "app_consent_01STANDIN"}
    return s.mint(claims, {"typ": "at+jwt"})


@forge("logout token of ours")
def _(s: StandIn) -> str:
    claims = s.session_claims(events={"http://schemas.openid.net/event/backchannel-logout": {}}, aud=s.client_id)
    return s.mint(claims, {"typ": "logout+jwt"})


@forge("refresh token")
def _(s: StandIn) -> str:
    return s.grant_refresh(f"session_{secrets.token_hex(13).upper()}")


def id_token_claims(s: StandIn) -> dict[str, Any]:
    """What an ID token of the OAuth side says: its issuer, its audience, and a person; it opens nothing."""
    claims = s.session_claims(iss=s.url, aud=s.client_id, email="ann@example.test", email_verified=True, sid=None, client_id=None)
    return {name: value for name, value in claims.items() if name != "jti"}
