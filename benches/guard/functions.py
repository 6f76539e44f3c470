"""Microseconds of the verifying functions alone, rounds interleaved: `functions.py ROUNDS LOOPS ours|peers` prints {name: [us of each round]}."""

from __future__ import annotations

import gc
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import contenders
from material import COOKIE, load


def functions() -> dict[str, Callable[[], Any]]:
    import jwt
    from fastapi_users.jwt import decode_jwt

    material = load()
    token, cookie = material.tokens[0], material.cookies[0]
    session = contenders.workos_session()
    authlib, joserfc = contenders.authlib_decode(), contenders.joserfc_decode()
    keys = jwt.PyJWKClient(f"{material.base_url}/sso/jwks/{material.client_id}", cache_keys=True)
    held = keys.get_signing_key_from_jwt(token).key
    return {
        "workos": lambda: session(cookie),
        "pyjwt": lambda: jwt.decode(token, keys.get_signing_key_from_jwt(token).key, algorithms=["RS256"]),
        "pyjwt, key in hand": lambda: jwt.decode(token, held, algorithms=["RS256"]),
        "authlib": lambda: authlib(token),
        "joserfc": lambda: joserfc(token),
        "fastapi-users, decode only": lambda: decode_jwt(material.hs256_token, material.secret, ["fastapi-users:auth"]),
    }


def our_functions() -> dict[str, Callable[[], Any]]:
    """`Guard.check` on the headers of a request, as the dependency and the middleware call it."""
    from gatewright._core import Requirement, User

    material = load()
    requirement = Requirement(kinds=("user",))

    def headers(name: bytes, value: str) -> list[tuple[bytes, bytes]]:
        return [(b"host", b"localhost"), (name, value.encode())]

    def check(guard: Any, sent: list[list[tuple[bytes, bytes]]]) -> Callable[[], Any]:
        contenders.wait_for_keys(lambda: guard.check(requirement, "GET", sent[0], False, None))
        for one in sent:
            assert isinstance(guard.check(requirement, "GET", one, False, None), User)
        turn = itertools.cycle(sent)
        return lambda: guard.check(requirement, "GET", next(turn), False, None)

    cookies = [headers(b"cookie", f"{COOKIE}={cookie}") for cookie in material.cookies]
    tokens = [headers(b"authorization", f"Bearer {token}") for token in material.tokens]
    return {
        "gatewright, first sight": check(contenders.compiled_guard(contenders.FEW), cookies),
        "gatewright, seen": check(contenders.compiled_guard(), cookies[:1]),
        "gatewright, bearer, first sight": check(contenders.compiled_guard(contenders.FEW), tokens),
        "gatewright, bearer, seen": check(contenders.compiled_guard(), tokens[:1]),
    }


def timed(call: Callable[[], Any], loops: int) -> float:
    """Microseconds a call, without the collector, as `timeit` does; processor time, so that neighbours on the machine do not count."""
    gc.collect()
    gc.disable()
    start = time.thread_time()
    for _ in itertools.repeat(None, loops):
        call()
    elapsed = time.thread_time() - start
    gc.enable()
    return elapsed / loops * 1e6


def main() -> None:
    rounds, loops = int(sys.argv[1]), int(sys.argv[2])
    calls = functions()
    if sys.argv[3] == "ours":
        calls |= our_functions()
    for call in calls.values():
        timed(call, loops // 4)
    figures: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            figures[name].append(timed(call, loops))
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
