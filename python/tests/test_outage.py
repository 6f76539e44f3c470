"""The server is stopped, slow or answers nonsense: sessions that are known go on, nothing blocks, nothing answers 500."""

import asyncio
import time
from typing import Any

import pytest
from asgi_calls import bearer, call, cookie_header
from fastapi import FastAPI

from gatewright.fastapi import Gatewright
from gatewright.testing import TestIssuer


@pytest.mark.parametrize("fault", ["error", "garbage", "closed"])
def test_who_is_known_goes_on_and_who_is_not_is_asked_to_come_back(fault: str, app: FastAPI, gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        async with gw.lifespan(app):
            token, cookies = bearer(issuer.user_token()), cookie_header(issuer.cookies(gw))
            expired = cookie_header(issuer.cookies(gw, expires_in=-60))
            assert (await call(app, "/user", headers=token)).status == 200
            if fault == "closed":
                issuer.close()
            else:
                issuer.fault = fault  # type: ignore[assignment]
            for headers in (token, cookies, bearer(issuer.user_token())):
                assert (await call(app, "/user", headers=headers)).status == 200
            for path in ("/user", "/optional", "/auth/session"):
                answer = await call(app, path, headers=expired)
                assert answer.status == 503, path
                assert int(answer.header("retry-after") or 0) >= 1
                # It may be a good session: it must be there when the server is back.
                assert answer.cookies() == []
            assert (await call(app, "/items", headers={"x-api-key": "sk_something"})).status == 503
            assert (await call(app, "/fresh", headers=token)).status == 503
            if fault != "closed":
                issuer.fault = None
                await asyncio.sleep(0)
                assert (await call(app, "/health")).status == 200

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["error", "garbage"])
def test_no_keys_at_all_is_an_outage_and_not_a_bad_token(fault: Any, app: FastAPI, gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        issuer.fault = fault
        async with gw.lifespan(app):
            answer = await call(app, "/user", headers=bearer(issuer.user_token()))
            assert answer.status == 503
            assert answer.json() == {"detail": "The credential cannot be checked right now. Try again shortly."}

    asyncio.run(run())


def test_a_server_that_hangs_holds_up_nobody_else(app: FastAPI, gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        issuer.fault = "hang"
        async with gw.lifespan(app):
            waiting = [asyncio.create_task(call(app, "/user", headers=bearer(issuer.user_token()))) for _ in range(20)]
            await asyncio.sleep(0.05)
            slowest = 0.0
            for _ in range(50):
                began = time.perf_counter()
                assert (await call(app, "/health")).status == 200
                slowest = max(slowest, time.perf_counter() - began)
            assert not any(task.done() for task in waiting)
            # Far below the seconds that the hanging call takes; a blocked loop would wait for them.
            assert slowest < 0.5
            issuer.close()
            answers = await asyncio.gather(*waiting)
            assert {answer.status for answer in answers} == {503}

    asyncio.run(run())


def test_an_api_key_confirmed_a_moment_ago_goes_on(app: FastAPI, gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        async with gw.lifespan(app):
            key = {"x-api-key": issuer.new_api_key(permissions=["items:read"])}
            assert (await call(app, "/items", headers=key)).status == 200
            issuer.fault = "error"
            assert (await call(app, "/items", headers=key)).status == 200

    asyncio.run(run())


def test_keys_are_changed_without_anybody_noticing(app: FastAPI, gw: Gatewright, issuer: TestIssuer) -> None:
    async def run() -> None:
        async with gw.lifespan(app):
            before = bearer(issuer.user_token("before"))
            assert (await call(app, "/user", headers=before)).status == 200
            issuer.rotate()
            after = bearer(issuer.user_token("after"))
            assert (await call(app, "/user", headers=after)).json() == "after"
            assert (await call(app, "/user", headers=before)).json() == "before"

    asyncio.run(run())
