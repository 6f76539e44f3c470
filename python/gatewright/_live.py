"""Ends WebSockets and streams whose session has ended."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from gatewright._core import Need, Principal, Refusal, Requirement, Resolved
from gatewright._engine import Engine, on_loop

CLOSE_CODE = 4401
# The clock is looked at this often at least: clocks are set, machines sleep.
_MAX_PAUSE = 60.0
_CLOSE_SECONDS = 5.0
# How long a credential is believed that the server has not confirmed since: a server that is away closes no sockets at once.
_UNCONFIRMED_SECONDS = 300.0
_LOG = logging.getLogger("gatewright")
_ANYBODY = Requirement(check_cross_site=False)

T = TypeVar("T")


@asynccontextmanager
async def until_revoked(engine: Engine, websocket: Any, principal: Principal, interval: float) -> AsyncIterator[None]:
    # Not above: apps that speak ASGI themselves need not have Starlette.
    from starlette.websockets import WebSocketDisconnect, WebSocketState

    check_interval(interval)
    block = asyncio.current_task()
    assert block is not None
    ended = False

    async def watch() -> None:
        nonlocal ended
        code = CLOSE_CODE
        try:
            reason = await wait_for_end(engine, websocket.scope, principal, interval)
        except Exception:
            # A socket that nobody watches any more must not stay open.
            _LOG.exception("a WebSocket is closed because its session could not be watched")
            code, reason = 1011, "The session cannot be checked."
        ended = True
        with suppress(Exception):  # The other side may be gone already, or take nothing any more.
            await asyncio.wait_for(websocket.close(code, reason), _CLOSE_SECONDS)
        block.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # Our own cancellation ends the block and no more than the block. Python 3.11 counts: somebody else may have cancelled too.
        if not ended or (sys.version_info >= (3, 11) and block.uncancel() > 0):
            raise
    except (WebSocketDisconnect, RuntimeError):
        # What the block meets when the socket is closed under it before the cancellation arrives.
        if not ended or websocket.application_state is not WebSocketState.DISCONNECTED:
            raise
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


def stream_until_revoked(engine: Engine, parts: AsyncIterable[T], principal: Principal, interval: float) -> AsyncIterator[T]:
    check_interval(interval)
    return _stream(engine, parts, principal, interval)


async def _stream(engine: Engine, parts: AsyncIterable[T], principal: Principal, interval: float) -> AsyncIterator[T]:
    iterator = parts.__aiter__()
    ending = asyncio.ensure_future(wait_for_end(engine, None, principal, interval))
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(iterator.__anext__())
            await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                if ending.exception() is not None:
                    _LOG.error("a stream is ended because its session could not be watched", exc_info=ending.exception())
                return
            try:
                part = coming.result()
            except StopAsyncIteration:
                return
            yield part
    finally:
        for waiting in (ending, coming):
            if waiting is not None and waiting.cancel():
                with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                    await waiting
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def check_interval(interval: float) -> None:
    if interval <= 0:
        raise ValueError(f"interval={interval!r}: give the seconds between two looks, more than 0")


async def wait_for_end(engine: Engine, scope: Any, principal: Principal, interval: float) -> str:
    """Returns, with a reason for the close frame, when the credential behind what is open holds no more. `scope`: of the WebSocket; without
    one, an API key is not asked about again, and ends by its revocation alone.
    """
    loop = asyncio.get_running_loop()
    revoked: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not revoked.done():
            revoked.set_result(None)

    def tell() -> None:
        with suppress(RuntimeError):  # The loop was closed: nobody waits any more.
            loop.call_soon_threadsafe(end)

    watching = engine.core.on_revoked(principal, tell)
    try:
        return await _wait_for_end(engine, scope, principal, interval, revoked)
    finally:
        watching.cancel()


async def _wait_for_end(engine: Engine, scope: Any, principal: Principal, interval: float, revoked: asyncio.Future[None]) -> str:
    expires_at = principal.expires_at.timestamp()
    # Until when there is proof. A token is one as long as it lives; of an API key the server alone can tell.
    confirmed = time.time() if principal.via == "api_key" else expires_at
    looked_at_expiry = False
    next_look = time.monotonic() + interval
    while True:
        left = expires_at - time.time()
        pause = min(_MAX_PAUSE, max(0.0, next_look - time.monotonic()), *([] if looked_at_expiry else [max(0.0, left)]))
        await asyncio.wait({revoked}, timeout=max(pause, 0.01))
        if revoked.done():
            return "The session has been revoked."
        expired = not looked_at_expiry and time.time() >= expires_at
        if not expired and time.monotonic() < next_look:
            continue
        looked_at_expiry = looked_at_expiry or expired
        next_look = time.monotonic() + interval
        refusal = await look(engine, scope, principal, expired)
        if refusal is None:
            confirmed = max(confirmed, time.time())
        # A server that does not answer says nothing about the session: look again later.
        elif refusal.status != 503 or time.time() > confirmed + _UNCONFIRMED_SECONDS:
            return refusal.message


async def look(engine: Engine, scope: Any, principal: Principal, expired: bool) -> Refusal | None:
    # A cookie never goes through `check`: it would renew the session, and the rotated refresh token could not reach the browser any more.
    if principal.via != "session":
        if expired:
            return Refusal(401, "invalid_token", "The access token has expired.")
        outcome = None if scope is None else engine.core.check(_ANYBODY, "GET", scope["headers"], True, None)
        if isinstance(outcome, Need):
            need = outcome
            outcome = await on_loop(lambda done: engine.core.resolve(need, done))
        refusal = outcome.refusal if isinstance(outcome, Resolved) else outcome
        if isinstance(refusal, Refusal):
            return refusal
    # The session of a bearer token ends before the token does.
    answer: Resolved = await on_loop(lambda done: engine.core.look_up(principal, done))
    return answer.refusal
