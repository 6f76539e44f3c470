"""Forged and confused tokens, by every way a token reaches an app (attack list, rows 16 to 18)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.faces import BEARERS, COOKIES, Answer, ask, ask_with_cookie, ask_with_token
from guard.forged_tokens import FORGED, TRAP
from guard.guarded import Guarded, guarded_app
from guard.stand_in import StandIn, sign, stand_in
from running_server import REPOSITORY

pytestmark = pytest.mark.once
SHARED = Path(os.environ.get("GATEWRIGHT_SHARED", REPOSITORY.parent / "shared"))
# What does not fit into a header is refused before the app sees it.
TOO_LARGE = {"payload of 40 kB", "payload nested 3000 deep", "kid of 4000 letters"}
# uvicorn's WebSockets never answer to a longer line.
LONGEST_LINE = 65_000
# Not b64token (RFC 6750 §2.1), and no name of a sub-protocol (RFC 6455 §4.1): the client cannot even say it.
UNSAYABLE = {"JSON serialization", "signature padded", "payload padded"}


@pytest.fixture(scope="module")
def partner() -> Iterator[StandIn]:
    """Another issuer the app believes, whose signing key has the same name as ours."""
    with stand_in(kid="key_shared", client_id="client_01PARTNER0000000000000000") as server:
        yield server


@pytest.fixture(scope="module")
def issuer() -> Iterator[StandIn]:
    with stand_in(kid="key_shared") as server:
        yield server


@pytest.fixture(scope="module")
def app(issuer: StandIn, partner: StandIn) -> Iterator[Guarded]:
    other = {"name": "partner", "issuer": "https://partner.example", "audiences": ["https://api.example.test/"], "types": ["JWT", "at+jwt"]}
    other["jwks_uri"] = f"{partner.url}/sso/jwks/{partner.client_id}"
    with guarded_app(issuer, issuers=[other]) as app:
        yield app


@pytest.mark.parametrize("face", BEARERS)
def test_a_good_token_is_let_in(face: str, app: Guarded, issuer: StandIn) -> None:
    answer = BEARERS[face](app, issuer.mint())
    assert answer.who["id"] == "user_01STANDIN0000000000000000" and answer.who["via"] == "bearer"


@pytest.mark.parametrize("face", COOKIES)
def test_a_good_cookie_is_let_in(face: str, app: Guarded, issuer: StandIn) -> None:
    answer = COOKIES[face](app, issuer.seal(issuer.mint()))
    assert answer.who["id"] == "user_01STANDIN0000000000000000" and answer.who["via"] == "session"


@pytest.mark.parametrize("name", FORGED)
def test_row_16_and_17_a_forged_token_is_refused_by_every_face(name: str, app: Guarded, issuer: StandIn) -> None:
    wrong = {}
    for face, ask_face in BEARERS.items():
        token = FORGED[name](issuer)
        if face.endswith("websocket") and (name in UNSAYABLE or len(token) > LONGEST_LINE):
            continue
        answer = ask_face(app, token)
        if not is_refused(name, answer):
            wrong[face] = answer
    for face, ask_face in COOKIES.items():
        # The right cookie key, and nothing behind it: the refresh token was never given out.
        cookie = issuer.seal(FORGED[name](issuer), refresh_token="worthless")
        if face == "cookie-websocket" and len(cookie) > LONGEST_LINE:
            continue
        answer = ask_face(app, cookie)
        if not is_refused(name, answer):
            wrong[face] = answer
    assert not wrong, wrong


def is_refused(name: str, answer: Answer) -> bool:
    if name in TOO_LARGE and answer.status in {400, 413, 414, 431}:
        return True
    challenge = answer.challenge or ""
    return answer.status == 401 and challenge.startswith("Bearer ") and 'error="invalid_token"' in challenge


def test_row_16_no_key_was_fetched_from_where_a_token_said(app: Guarded, issuer: StandIn) -> None:
    for name in ("another key in jku", "another key in jku and its own kid", "another key in x5u"):
        assert ask_with_token(app, FORGED[name](issuer)).status == 401
    assert not issuer.list_requests(TRAP)


def test_row_16_unknown_kids_start_one_look_up_and_not_one_each(app: Guarded, issuer: StandIn) -> None:
    before = len(issuer.key_fetches)
    for number in range(60):
        assert ask_with_token(app, issuer.mint(header={"kid": f"key_{number}"})).status == 401
    assert len(issuer.key_fetches) - before <= 1


def test_row_18_issuers_that_share_a_kid_do_not_vouch_for_each_other(app: Guarded, issuer: StandIn, partner: StandIn) -> None:
    theirs = partner.session_claims(iss="https://partner.example", aud="https://api.example.test/", sub="user_of_theirs", sid=None)
    header = {"alg": "RS256", "typ": "at+jwt", "kid": "key_shared"}
    assert ask_with_token(app, sign(header, theirs, partner.key)).who["id"] == "user_of_theirs"
    assert ask_with_token(app, issuer.mint()).status == 200

    ours_by_them = {"at+jwt": issuer.session_claims(iss=issuer.url, aud=issuer.client_id), "JWT": issuer.session_claims()}
    for typ, claims in ours_by_them.items():
        for face, ask_face in BEARERS.items():
            assert ask_face(app, sign({**header, "typ": typ}, claims, partner.key)).status == 401, (face, typ)
    for face, ask_face in COOKIES.items():
        forged = sign({**header, "typ": "JWT"}, issuer.session_claims(), partner.key)
        assert ask_face(app, issuer.seal(forged, "worthless")).status == 401, face
        assert ask_face(app, issuer.seal(sign(header, theirs, partner.key), "worthless")).status == 401, face
    assert ask_with_token(app, sign(header, theirs, issuer.key)).status == 401, "our key vouched for their token"


def test_row_16_the_same_token_is_refused_again_once_it_has_expired(app: Guarded, issuer: StandIn) -> None:
    """What was verified is remembered, but not longer than it is good: leeway is ten seconds."""
    now = int(time.time())
    token = issuer.mint(iat=now - 300, exp=now - 8)
    assert ask_with_token(app, token).status == 200
    time.sleep(max(0.0, now + 2.2 - time.time()))
    assert ask_with_token(app, token).status == 401


def test_credentials_in_two_places_are_refused_and_never_chosen_from(app: Guarded, issuer: StandIn) -> None:
    token, cookie = issuer.mint(), issuer.seal(issuer.mint())
    twice = app.http.get(f"{app.url}/who", headers=[("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")])
    assert twice.status_code == 400 and 'error="invalid_request"' in twice.headers["www-authenticate"]
    both = ask(app, authorization=f"Bearer {token}", x_api_key="sk_test_x")
    assert both.status == 400
    bad_beside_good = ask(app, authorization=f"Bearer {token}x", cookie=f"wos_session={cookie}")
    assert bad_beside_good.status == 401
    assert ask(app, authorization="Bearer").status in {400, 401}
    for other in ("Basic YTpi", "Digest x", "bearerx y"):
        assert ask(app, authorization=other).status == 401, other
    assert ask(app, f"/who?access_token={token}").status == 401, "a token in the query"


def test_no_credential_is_challenged_without_an_error_code(app: Guarded) -> None:
    for path in ("/who", "/me", "/write", "/machine", "/asgi/who"):
        answer = ask(app, path)
        assert answer.status == 401 and answer.challenge and answer.challenge.startswith("Bearer"), path
        assert "error=" not in answer.challenge, path


@pytest.mark.parametrize("change", ["cut", "flipped", "other key", "empty", "plain JSON", "Iron without a seal", "twice", "huge"])
def test_row_65_a_cookie_that_was_not_sealed_by_us_is_refused(change: str, app: Guarded, issuer: StandIn) -> None:
    good = issuer.seal(issuer.mint())
    with stand_in(kid=issuer.kid, client_id=issuer.client_id) as stranger:
        foreign = stranger.seal(issuer.mint())
    sent = {
        "cut": good[:-10],
        "flipped": good[:-20] + ("A" if good[-20] != "A" else "B") + good[-19:],
        "other key": foreign,
        "empty": "",
        "plain JSON": "%7B%22access_token%22%3A%22x%22%7D",
        "Iron without a seal": "Fe26.2****A*A**A*A~2",
        "twice": f"{good[:-10]}; wos_session={foreign}",
        "huge": "gAAAA" + "A" * 20_000,
    }[change]
    answer = ask_with_cookie(app, sent)
    assert answer.status == 401, answer


def test_row_65_a_flood_of_cookies_is_answered(app: Guarded, issuer: StandIn) -> None:
    """Thousands of pieces of a session, or of other cookies around one, cost nothing worth telling."""
    good = issuer.seal(issuer.mint())
    others = "; ".join(f"c{number}=x" for number in range(4000))
    assert ask(app, cookie=f"{others}; wos_session={good}").status == 200
    for flood in (
        "; ".join(["wos_session=x"] * 3000),
        "; ".join(f"wos_session.{number}=x" for number in range(2500)),
        ";" * 40_000,
        "=" * 40_000,
    ):
        assert ask(app, cookie=flood).status == 401, flood[:40]


def test_a_session_is_found_in_any_of_several_cookie_headers(app: Guarded, issuer: StandIn) -> None:
    """HTTP/2 lets browsers send one header for each cookie (RFC 9113 §8.2.3)."""
    headers = [("cookie", "a=b"), ("cookie", f"wos_session={issuer.seal(issuer.mint())}"), ("cookie", "c=d")]
    assert app.http.get(f"{app.url}/who", headers=headers).status_code == 200


# Wycheproof


def list_vectors() -> Iterator[tuple[str, str]]:
    """Every compact or JSON serialization in the JOSE vectors, valid or not: none of them is a token of ours."""
    for path in sorted((SHARED / "vectors" / "wycheproof").glob("json_web_*.json")):
        for group in json.loads(path.read_text())["testGroups"]:
            for test in group["tests"]:
                for field in ("jws", "jwe"):
                    if field in test:
                        value = test[field]
                        yield f"{path.stem} {test['tcId']}", value if isinstance(value, str) else json.dumps(value)


def test_row_16_wycheproof_vectors_are_never_let_in_and_never_a_crash(app: Guarded, issuer: StandIn) -> None:
    vectors = list(list_vectors())
    assert len(vectors) > 500, f"the vectors were not found under {SHARED}"
    seen: dict[int, list[str]] = {}
    for name, vector in vectors:
        if not vector.strip() or not vector.isascii() or not vector.isprintable():
            continue  # no HTTP client can send it as a header
        seen.setdefault(ask_with_token(app, vector.strip()).status, []).append(name)
        if len(vector) < 8000:
            seen.setdefault(ask_with_cookie(app, issuer.seal(vector, "worthless"), "/asgi/who").status, []).append(name)
    assert set(seen) <= {400, 401, 431}, {status: names[:5] for status, names in seen.items()}
    assert len(seen[401]) > 1000
