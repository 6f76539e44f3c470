"""The server is stopped, slow or answers garbage: valid sessions go on, nobody else waits, and nothing answers 500."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from guard.faces import Answer, ask, ask_socket, ask_with_cookie, ask_with_token
from guard.guarded import Guarded, guarded_app, guarded_apps
from guard.stand_in import StandIn, sign, stand_in

pytestmark = pytest.mark.once

# Ways in which a set of keys does not come.
KEY_MOODS = ("hanging", "trickling", "garbled", "html", "broken", "busy", "keyless", "indiscreet", "elsewhere", "endless", "short")
# Ways in which a refresh does not come: none of them says that the session has ended.
REFRESH_MOODS = ("hanging", "trickling", "garbled", "html", "broken", "busy", "elsewhere", "endless", "short")


def assert_unavailable(answer: Answer) -> None:
    assert answer.status == 503, answer
    assert answer.retry_after and int(answer.retry_after) >= 1, answer
    assert not answer.cookies, "a session that may be good was taken from the browser"


@dataclass
class Look:
    """What an app answered around a fetch of keys that went wrong."""

    known: list[int]
    unknown: Answer | None = None


Refused = dict[str, tuple[str, Answer]]


@pytest.fixture(scope="module")
def met(app: Guarded, issuer: StandIn) -> Iterator[tuple[dict[str, Look], Refused]]:
    """For each mood an app that met it with its keys, and a session that met it with its refresh; all at once, because some take their time."""
    with ExitStack() as stack:
        issuers = {f"/{mood}": stack.enter_context(stand_in()) for mood in KEY_MOODS}
        first = {"": issuers["/broken"]}
        apps = stack.enter_context(guarded_apps({prefix: (server, {}) for prefix, server in {**first, **issuers}.items()}))
        with ThreadPoolExecutor(len(KEY_MOODS) + 1) as pool:
            refused = pool.submit(refuse_refreshes, app, issuer)
            looks = dict(zip(KEY_MOODS, pool.map(lambda mood: look(mood, issuers[f"/{mood}"], apps[f"/{mood}"]), KEY_MOODS), strict=True))
            yield looks, refused.result(60)


def look(mood: str, issuer: StandIn, app: Guarded) -> Look:
    cookie, kept = issuer.seal(issuer.mint()), issuer.mint()
    seen = Look([ask_with_token(app, kept).status])
    issuer.moods["/sso/jwks/"] = mood
    before = len(issuer.key_fetches)
    with ThreadPoolExecutor(1) as pool:
        # A key nobody knows starts a look-up, now.
        unknown = pool.submit(ask_with_token, app, issuer.mint(header={"kid": "key_unknown"}))
        deadline = time.monotonic() + 10
        while len(issuer.key_fetches) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(issuer.key_fetches) > before, "no look-up was made"
        # During the fetch and after it: a token and a session seen before, and ones never seen.
        for rounds in range(2):
            for _ in range(3):
                seen.known.append(ask_with_token(app, kept).status)
                seen.known.append(ask_with_token(app, issuer.mint()).status)
                seen.known.append(ask_with_cookie(app, cookie).status)
                seen.known.append(ask_with_cookie(app, issuer.seal(issuer.mint())).status)
                seen.known.append(ask_socket(app, authorization=f"Bearer {issuer.mint()}").status)
            if rounds == 0:
                seen.unknown = unknown.result(20)
    return seen


@pytest.mark.parametrize("mood", KEY_MOODS)
def test_good_keys_outlive_a_bad_answer(mood: str, met: tuple[dict[str, Look], Refused]) -> None:
    look = met[0][mood]
    assert set(look.known) == {200}
    unknown = look.unknown
    assert unknown and (unknown.status == 401 or (unknown.status == 503 and unknown.retry_after)), unknown


def test_no_unguarded_request_waits_for_a_fetch_that_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    """From a cold start: no keys yet, and the fetch of them hangs. The event loop has one thread; what blocks it blocks all."""
    with stand_in(moods={"": "hanging"}) as issuer, guarded_app(issuer) as app:
        spans: list[tuple[float, float]] = []
        waiting = threading.Barrier(5)

        def call_guarded(number: int) -> tuple[float, float, int]:
            began = time.monotonic()
            if number < 4:
                waiting.wait(5)
            answer = ask_with_token(app, issuer.mint()) if number % 2 else ask_with_cookie(app, issuer.seal(issuer.mint()))
            return began, time.monotonic(), answer.status

        with ThreadPoolExecutor(5) as pool:
            guarded = [pool.submit(call_guarded, number) for number in range(4)]
            waiting.wait(5)
            deadline = time.monotonic() + 5
            while not issuer.key_fetches and time.monotonic() < deadline:
                time.sleep(0.005)
            assert issuer.key_fetches, "no fetch of keys was made"
            while not any(future.done() for future in guarded) and len(spans) < 2000:
                began = time.monotonic()
                assert app.http.get(f"{app.url}/open").status_code == 200
                spans.append((began, time.monotonic()))
            results = [future.result(30) for future in guarded]
    assert {status for _, _, status in results} == {503}
    waits = sorted(end - began for began, end in spans)
    fetch_lasted = min(end - began for began, end, _ in results)
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    with capsys.disabled():
        print(
            f"\n    unguarded route while a key fetch hangs: {len(waits)} requests, p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms,"
            f" longest {waits[-1] * 1e3:.2f} ms; the guarded ones waited {fetch_lasted * 1e3:.0f} ms"
        )
    # All of them began and ended while every guarded request still waited; a loop that waits with them answers one, at the end.
    assert len(spans) > 50, "the event loop stood still"


def test_a_cold_start_without_the_server_answers_503_and_recovers_by_itself() -> None:
    issuer = StandIn()
    issuer.start()
    issuer.stop()
    with guarded_app(issuer) as app:
        assert ask(app, "/open").status == 200
        assert ask(app, "/who").status == 401, "who has no credential needs no keys"
        cookie = issuer.seal(issuer.mint())
        assert_unavailable(ask_with_token(app, issuer.mint()))
        assert_unavailable(ask_with_cookie(app, cookie))
        assert_unavailable(ask_with_token(app, issuer.mint(), "/asgi/who"))
        assert ask_socket(app, authorization=f"Bearer {issuer.mint()}").status == 503
        issuer.start()
        try:
            deadline = time.monotonic() + 10
            while (answer := ask_with_token(app, issuer.mint())).status == 503 and time.monotonic() < deadline:
                time.sleep(0.2)
            assert answer.status == 200, answer
            assert ask_with_cookie(app, cookie).status == 200
        finally:
            issuer.stop()


def refuse_refreshes(app: Guarded, issuer: StandIn) -> Refused:
    """For each mood the cookie of a session whose refresh meets it, and what the app answered."""
    assert ask_with_token(app, issuer.mint()).status == 200
    cookies = {}
    for mood in REFRESH_MOODS:
        claims = issuer.expired_claims()
        token = issuer.grant_refresh(claims["sid"])
        cookies[mood] = issuer.seal(issuer.mint(claims), token)
        issuer.moods[token] = mood
    with ThreadPoolExecutor(len(cookies)) as pool:
        answers = list(pool.map(lambda cookie: ask_with_cookie(app, cookie), cookies.values()))
    issuer.moods.clear()
    return {mood: (cookie, answer) for (mood, cookie), answer in zip(cookies.items(), answers, strict=True)}


@pytest.mark.parametrize("mood", REFRESH_MOODS)
def test_an_expired_session_is_told_to_come_back_while_its_refresh_fails(mood: str, met: tuple[dict[str, Look], Refused]) -> None:
    assert_unavailable(met[1][mood][1])


@pytest.mark.parametrize("mood", REFRESH_MOODS)
def test_the_session_goes_on_when_the_server_is_well_again(mood: str, met: tuple[dict[str, Look], Refused], app: Guarded) -> None:
    deadline = time.monotonic() + 10
    while (answer := ask_with_cookie(app, met[1][mood][0])).status == 503 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert answer.status == 200 and len(answer.cookies) == 1, answer


def test_only_a_refusal_ends_a_session(app: Guarded, issuer: StandIn) -> None:
    ended = ask_with_cookie(app, issuer.seal(issuer.mint(issuer.expired_claims()), "never given out"))
    assert ended.status == 401 and any("Max-Age=0" in cookie or "max-age=0" in cookie for cookie in ended.cookies), ended


def test_a_key_published_a_moment_ago_is_found_by_the_first_tokens_that_name_it() -> None:
    """Also by those that arrive while the look-up ends: ten apps, to meet that moment."""
    with ExitStack() as stack:
        issuers = {f"/{number}" if number else "": stack.enter_context(stand_in()) for number in range(10)}
        apps = stack.enter_context(guarded_apps({prefix: (issuer, {}) for prefix, issuer in issuers.items()}))
        pool = stack.enter_context(ThreadPoolExecutor(30))
        for prefix, issuer in issuers.items():
            app, cookie = apps[prefix], issuer.seal(issuer.mint())
            assert ask_with_cookie(app, cookie).status == 200
            before, key = len(issuer.key_fetches), rsa.generate_private_key(65537, 2048)
            issuer.more_keys["key_new"] = key
            tokens = [sign({"alg": "RS256", "typ": "JWT", "kid": "key_new"}, issuer.session_claims(), key) for _ in range(30)]
            answers = list(pool.map(lambda token, app=app: ask_with_token(app, token), tokens))
            assert Counter(answer.status for answer in answers) == {200: 30}
            assert len(issuer.key_fetches) - before == 1, "not one look-up for all of them"
            assert ask_with_cookie(app, cookie).status == 200 and ask_with_token(app, issuer.mint()).status == 200


def test_a_stopped_server_fails_what_must_be_asked_and_nothing_else() -> None:
    issuer = StandIn()
    issuer.start()
    with guarded_app(issuer) as app:
        cookie, token = issuer.seal(issuer.mint()), issuer.mint()
        expired = issuer.seal(issuer.mint(issuer.expired_claims()))
        assert ask_with_cookie(app, cookie).status == 200
        issuer.stop()
        for path in ("/who", "/me", "/optional", "/own-response", "/asgi/who"):
            assert ask_with_cookie(app, cookie, path).status == 200, path
            assert ask_with_token(app, token, path).status == 200, path
        assert ask_with_token(app, issuer.mint()).status == 200, "a token never seen before, signed with a key that is known"
        for path in ("/who", "/me", "/own-response", "/stream", "/refuses", "/asgi/who"):
            assert_unavailable(ask_with_cookie(app, expired, path))
        assert ask_socket(app, cookie=f"wos_session={expired}", origin=app.url).status == 503
        assert_unavailable(ask(app, "/key", authorization="Bearer sk_test_" + "a" * 46))
        assert_unavailable(ask_with_cookie(app, cookie, "/fresh"))
        assert ask_with_token(app, issuer.mint(header={"kid": "key_unknown"})).status in {401, 503}
        assert ask(app, "/auth/callback?code=x&state=y").status in {400, 302, 303}
