"""The compiled module: its values, its threads, and the ends of a process."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from gatewright import ApiKey, Machine, Principal, Refusal, Requirement, User, _core
from gatewright._core import Guard, Need, Resolved
from gatewright.testing import TestIssuer

ANYBODY = Requirement()


@pytest.fixture
def guard(issuer: TestIssuer) -> Iterator[Guard]:
    guard = guard_for(issuer)
    yield guard
    guard.close()


def guard_for(issuer: TestIssuer, **more: Any) -> Guard:
    session = {"password": issuer.cookie_password, "secure": False}
    return Guard(json.dumps({"base_url": issuer.url, "client_id": issuer.client_id, "session": session, **more}))


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"localhost"), (b"Authorization", b"Bearer " + token.encode())]


def resolved(guard: Guard, need: Need) -> Resolved:
    done = threading.Event()
    answers: list[Resolved] = []
    guard.resolve(need, lambda answer: (answers.append(answer), done.set()))
    assert done.wait(10), "no answer"
    return answers[0]


def caller(guard: Guard, headers: Any, requirement: Requirement = ANYBODY) -> Principal | Refusal:
    outcome = guard.check(requirement, "GET", headers, False, None)
    if isinstance(outcome, Need):
        outcome = resolved(guard, outcome)
    if isinstance(outcome, Resolved):
        outcome = outcome.principal or outcome.refusal
    assert isinstance(outcome, (Principal, Refusal))
    return outcome


def test_a_token_becomes_a_person_with_everything_it_says(guard: Guard, issuer: TestIssuer) -> None:
    token = issuer.user_token(
        "user_1", session_id="session_1", roles=["admin"], permissions=["a:b", "c:d"], org="org_1", extra={"n": [1, 2.5, None, True]}
    )
    user = caller(guard, bearer(token))
    assert isinstance(user, User) and isinstance(user, Principal) and not isinstance(user, Machine)
    assert (user.kind, user.via, user.id, user.session_id, user.organization_id) == ("user", "bearer", "user_1", "session_1", "org_1")
    assert (user.roles, user.permissions, user.scopes) == (("admin",), ("a:b", "c:d"), ())
    assert user.has_permission("c:d") and not user.has_permission("c") and not user.has_scope("a:b")
    assert user.claims["extra"] == {"n": [1, 2.5, None, True]}
    assert user.expires_at.tzinfo is timezone.utc and 0 < (user.expires_at - datetime.now(timezone.utc)).total_seconds() <= 300
    assert user == caller(guard, bearer(token)) and hash(user) == hash(caller(guard, bearer(token)))


def test_what_a_caller_changes_in_its_claims_stays_its_own(guard: Guard, issuer: TestIssuer) -> None:
    headers = bearer(issuer.user_token(permissions=["a:b"]))
    user = caller(guard, headers)
    assert isinstance(user, User)
    user.claims["permissions"].append("everything")
    again = caller(guard, headers)
    assert isinstance(again, User) and again.claims["permissions"] == ["a:b"]
    for name in ("roles", "id", "anything"):
        with pytest.raises(AttributeError):
            setattr(user, name, ("admin",))
    with pytest.raises(TypeError):
        Principal()


def test_the_second_sight_asks_nobody(guard: Guard, issuer: TestIssuer) -> None:
    headers = bearer(issuer.user_token())
    assert isinstance(guard.check(ANYBODY, "GET", headers, False, None), Need)
    caller(guard, headers)
    issuer.fault = "error"
    assert isinstance(guard.check(ANYBODY, "GET", headers, False, None), User)


def test_headers_may_be_any_iterable_of_pairs_of_octets(guard: Guard, issuer: TestIssuer) -> None:
    pairs = bearer(issuer.user_token())
    caller(guard, pairs)
    for headers in (tuple(pairs), [list(pair) for pair in pairs], iter(pairs), (pair for pair in pairs)):
        assert isinstance(caller(guard, headers), User)
    for wrong in ([("authorization", "x")], [(b"authorization", "x")], [(b"authorization",)], [b"authorization"], 7):
        with pytest.raises((TypeError, IndexError)):
            guard.check(ANYBODY, "GET", wrong, False, None)  # type: ignore[arg-type]


def test_a_need_is_resolved_once(guard: Guard, issuer: TestIssuer) -> None:
    need = guard.check(ANYBODY, "GET", bearer(issuer.user_token()), False, None)
    assert isinstance(need, Need) and resolved(guard, need).principal
    with pytest.raises(RuntimeError, match="resolved before"):
        guard.resolve(need, lambda answer: None)


def test_what_a_callback_raises_is_heard(guard: Guard, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[BaseException | None] = []
    called = threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", lambda about: (heard.append(about.exc_value), called.set()))

    def fails(answer: Resolved) -> None:
        raise KeyError("planted")

    need = guard.check(ANYBODY, "GET", bearer(issuer.user_token()), False, None)
    assert isinstance(need, Need)
    guard.resolve(need, fails)
    assert called.wait(10) and isinstance(heard[0], KeyError)
    # The thread that called it goes on.
    assert isinstance(caller(guard, bearer(issuer.user_token("user_2"))), User)


def test_refusals_carry_their_challenge(issuer: TestIssuer) -> None:
    guard = guard_for(issuer, resource_metadata="https://api.example.com/.well-known/oauth-protected-resource")
    refusal = guard.check(ANYBODY, "GET", [], False, None)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retry_after) == (401, "no_credential", None)
    assert refusal.challenge == 'Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"'
    assert refusal == guard.check(ANYBODY, "GET", [], False, None)
    missing = guard.satisfy(Requirement(scopes=["a", "b"]), Machine("m", scopes=["a"]), None)
    assert missing and missing.status == 403 and 'scope="b"' in (missing.challenge or "")


def test_an_api_key_is_asked_for_and_becomes_one(issuer: TestIssuer) -> None:
    guard = guard_for(issuer, api_key=issuer.api_key)
    key = caller(guard, [(b"x-api-key", issuer.new_api_key(permissions=["items:read"], org="org_9").encode())])
    assert isinstance(key, ApiKey) and key.organization_id == "org_9" and key.permissions == ("items:read",)


def test_requirements_are_values() -> None:
    one, same = (Requirement(kinds=["user"], roles=["a"], max_age=300, mfa=True) for _ in range(2))
    assert one == same and hash(one) == hash(same) and len({one, same}) == 1
    assert one != Requirement(kinds=["user"], roles=["a"], max_age=301, mfa=True)
    assert (one.kinds, one.roles, one.max_age, one.check_cross_site) == (("user",), ("a",), 300, True)
    assert repr(one) == 'Requirement(kinds=["user"], roles=["a"], mfa=True, max_age=300)'
    own = Requirement(impersonation=False)
    assert own != Requirement() and repr(own) == "Requirement(impersonation=False)" and Requirement().impersonation
    for wrong in ({"kinds": ["person"]}, {"kinds": []}, {"max_age": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Requirement(**wrong)  # type: ignore[arg-type]


def test_principals_for_tests_have_every_field_they_are_given() -> None:
    signed_in = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=5)
    user = User(
        "user_1",
        session_id="session_1",
        amr=["pwd", "otp"],
        authenticated_at=signed_in,
        user={"first_name": "Ada", "last_name": "L"},
        claims={"x": {"y": (1, 2)}},
    )
    assert (user.name, user.first_name, user.authenticated_at, user.claims) == ("Ada L", "Ada", signed_in, {"x": {"y": [1, 2]}})
    assert user.via == "session" and Machine("m").via == "bearer" and Machine("m").client_id == "m" and ApiKey("k").via == "api_key"
    with pytest.raises(TypeError, match="roels"):
        User("user_1", roels=["admin"])  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="time zone"):
        User("user_1", expires_at=datetime.now())
    with pytest.raises(TypeError, match="roles"):
        User("user_1", roles="admin")


def test_a_wrong_configuration_is_one_line_that_names_the_key() -> None:
    right = {"base_url": "http://localhost:1", "client_id": "client_1"}
    for wrong, key in (
        ({"sesion": {}}, "sesion"),
        ({"leeway": 61}, "leeway"),
        ({"base_url": "http://example.com"}, "base_url"),
        ({"session": {"password": "short"}}, "session"),
        ({"issuers": [{"name": "x"}]}, "issuers"),
    ):
        with pytest.raises(ValueError) as refused:
            Guard(json.dumps({**right, **wrong}))
        assert key in str(refused.value) and "\n" not in str(refused.value)


def test_secrets_are_in_no_repr(issuer: TestIssuer, guard: Guard) -> None:
    [cookie, *_] = guard.seal_session(issuer.user_token(), "the refresh token", json.dumps({"id": "user_1"}))
    outcome = guard.check(ANYBODY, "GET", [(b"cookie", cookie.split(";")[0].encode())], False, None)
    assert isinstance(outcome, Need)
    answer = resolved(guard, outcome)
    for value in (guard, outcome, answer, answer.principal):
        assert "gAAAA" not in repr(value) and "refresh" not in repr(value) and "eyJ" not in repr(value)


def test_revoked_is_refused_at_once(guard: Guard, issuer: TestIssuer) -> None:
    headers = bearer(issuer.user_token(session_id="session_7"))
    user = caller(guard, headers)
    assert isinstance(user, User) and not guard.is_revoked(user)
    guard.revoke(session_id="session_7")
    assert guard.is_revoked(user)
    refusal = guard.check(ANYBODY, "GET", headers, False, None)
    assert isinstance(refusal, Refusal) and refusal.code == "revoked"
    with pytest.raises(ValueError, match="name what"):
        guard.revoke()


def test_what_the_guard_has_to_tell_goes_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(json.dumps({"base_url": "http://127.0.0.1:9", "client_id": "client_1"}))
    with caplog.at_level(logging.INFO, logger="gatewright"):
        guard.warm()
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.02)
    record = caplog.records[0]
    assert (record.name, record.levelname) == ("gatewright", "WARNING") and "http://127.0.0.1:9" in record.getMessage()


def test_a_session_that_a_socket_was_opened_with_is_looked_up(issuer: TestIssuer) -> None:
    guard = guard_for(issuer, api_key=issuer.api_key)
    cookies = guard.seal_session(issuer.user_token(session_id="session_gone"), "r", json.dumps({"id": "user_test"}))
    user = caller(guard, [(b"cookie", cookies[0].split(";")[0].encode())])
    assert isinstance(user, User)
    done = threading.Event()
    answers: list[Resolved] = []
    # The issuer lists no such session.
    guard.look_up(user, lambda answer: (answers.append(answer), done.set()))
    assert done.wait(10) and answers[0].refusal and answers[0].refusal.code == "session_ended"


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize("delay", ["0", "0.002", "0.02", "0.2"])
def test_an_interpreter_that_ends_while_answers_come_ends_in_peace(delay: str, issuer: TestIssuer) -> None:
    issuer.fault = "slow" if delay == "0.2" else None
    script = """
        import json, os, time
        from gatewright._core import Guard, Need, Requirement
        guard = Guard(os.environ["CONFIG"])
        said = []
        for token in json.loads(os.environ["TOKENS"]):
            need = guard.check(Requirement(), "GET", [(b"authorization", b"Bearer " + token.encode())], False, None)
            if isinstance(need, Need):
                guard.resolve(need, said.append)
        time.sleep(float(os.environ["DELAY"]))
        print("over")
    """
    config = json.dumps({"base_url": issuer.url, "client_id": issuer.client_id})
    tokens = json.dumps([issuer.user_token(f"user_{n}") for n in range(20)])
    started = time.monotonic()
    ended = python(script, CONFIG=config, TOKENS=tokens, DELAY=delay)
    assert (ended.returncode, ended.stdout) == (0, "over\n"), ended.stderr
    assert time.monotonic() - started < 10


def test_the_child_of_a_fork_has_a_guard_that_works(issuer: TestIssuer) -> None:
    script = """
        import json, os, threading
        from gatewright._core import Guard, Need, Requirement, User
        guard = Guard(os.environ["CONFIG"])

        def who(token):
            headers = [(b"authorization", b"Bearer " + token.encode())]
            outcome = guard.check(Requirement(), "GET", headers, False, None)
            if isinstance(outcome, Need):
                done, answers = threading.Event(), []
                guard.resolve(outcome, lambda answer: (answers.append(answer), done.set()))
                assert done.wait(10), "no answer"
                outcome = answers[0].principal or answers[0].refusal
            return outcome.id if isinstance(outcome, User) else repr(outcome)

        first, second, third = json.loads(os.environ["TOKENS"])
        if os.environ["PARENT"] == "asks":
            assert who(first) == "user_0"
        child = os.fork()
        if child == 0:
            print("child", who(second), who(third), flush=True)
        else:
            _, status = os.waitpid(child, 0)
            print("parent", who(second), os.waitstatus_to_exitcode(status))
    """
    config = json.dumps({"base_url": issuer.url, "client_id": issuer.client_id})
    tokens = json.dumps([issuer.user_token(f"user_{n}") for n in range(3)])
    for parent in ("asks", "waits"):
        ended = python(script, CONFIG=config, TOKENS=tokens, PARENT=parent)
        assert ended.stdout.splitlines() == ["child user_1 user_2", "parent user_1 0"], ended.stderr


def test_a_guard_that_nobody_holds_is_gone(issuer: TestIssuer) -> None:
    import gc
    import weakref

    guard = guard_for(issuer)
    caller(guard, bearer(issuer.user_token()))
    gone = weakref.ref(guard)
    del guard
    gc.collect()
    assert gone() is None


def test_threads_share_a_guard(guard: Guard, issuer: TestIssuer) -> None:
    tokens = [issuer.user_token(f"user_{n}") for n in range(20)]
    wrong: list[object] = []

    def work() -> None:
        for n, token in enumerate(tokens):
            found = caller(guard, bearer(token))
            if not (isinstance(found, User) and found.id == f"user_{n}"):
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    # One flight fetched the keys for all of them.
    assert issuer.counts[f"/sso/jwks/{issuer.client_id}"] == 1


def test_the_module_says_its_version() -> None:
    from importlib.metadata import version

    assert _core.__version__ == version("gatewright")
