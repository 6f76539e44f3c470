"""Each contender is an app of one route: with several in one app, the later ones would pay for the router."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from material import COOKIE, FASTAPI_USERS_ID, USER_ID, load

App = Any
"""Any ASGI app."""

FEW = 64
"""Credentials remembered by a guard that shall meet each for the first time; far fewer than it is sent."""


def bare() -> App:
    app = plain_app()

    @app.get("/")
    async def route() -> Any:
        return {"id": USER_ID}

    return app


def cookie_only() -> App:
    async def read(request: Request) -> str:
        if request.cookies.get(COOKIE) is None:
            raise HTTPException(401)
        return USER_ID

    return guarded_by(read)


def workos_async() -> App:
    authenticate = workos_authenticate()

    async def user(request: Request) -> str:
        return authenticate(request.cookies.get(COOKIE))

    return guarded_by(user)


def workos_def() -> App:
    authenticate = workos_authenticate()

    def user(request: Request) -> str:
        return authenticate(request.cookies.get(COOKIE))

    return guarded_by(user)


def pyjwt() -> App:
    import jwt

    material = load()
    keys = jwt.PyJWKClient(f"{material.base_url}/sso/jwks/{material.client_id}", cache_keys=True)
    issuer = f"{material.base_url}/user_management/{material.client_id}"

    async def user(request: Request) -> str:
        token = bearer(request)
        try:
            key = keys.get_signing_key_from_jwt(token)
            return jwt.decode(token, key.key, algorithms=["RS256"], issuer=issuer)["sub"]
        except jwt.InvalidTokenError:
            raise HTTPException(401) from None

    return guarded_by(user)


def authlib() -> App:
    decode = authlib_decode()

    async def user(request: Request) -> str:
        try:
            return decode(bearer(request))["sub"]
        except Exception:
            raise HTTPException(401) from None

    return guarded_by(user)


def joserfc() -> App:
    decode = joserfc_decode()

    async def user(request: Request) -> str:
        try:
            return decode(bearer(request))["sub"]
        except Exception:
            raise HTTPException(401) from None

    return guarded_by(user)


def fastapi_users() -> App:
    """As its documentation has it: JWT strategy, SQLAlchemy, aiosqlite; the user is looked up for each request."""
    from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
    from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
    from sqlalchemy.orm import DeclarativeBase

    material = load()

    class Base(DeclarativeBase):
        pass

    class User(SQLAlchemyBaseUserTableUUID, Base):
        pass

    database = material.folder / "fastapi-users.db"
    database.unlink(missing_ok=True)
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def database_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    async def users(session: AsyncSession = Depends(database_session)) -> AsyncIterator[Any]:
        yield SQLAlchemyUserDatabase(session, User)

    class Users(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
        reset_password_token_secret = material.secret
        verification_token_secret = material.secret

    async def accounts(found: Any = Depends(users)) -> AsyncIterator[Users]:
        yield Users(found)

    def strategy() -> JWTStrategy[User, uuid.UUID]:
        return JWTStrategy(secret=material.secret, lifetime_seconds=3600)

    transport = BearerTransport(tokenUrl="auth/jwt/login")
    backend = AuthenticationBackend(name="jwt", transport=transport, get_strategy=strategy)
    current_user = FastAPIUsers[User, uuid.UUID](accounts, [backend]).current_user(active=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with sessions() as session:
            session.add(User(id=uuid.UUID(FASTAPI_USERS_ID), email="ada@example.com", hashed_password="x", is_active=True))
            await session.commit()
        yield
        await engine.dispose()

    app = plain_app(lifespan=lifespan)

    @app.get("/")
    async def route(user: User = Depends(current_user)) -> Any:
        assert str(user.id) == FASTAPI_USERS_ID
        return {"id": USER_ID}

    return app


def gatewright_depends() -> App:
    return with_gatewright()


def gatewright_first_sight() -> App:
    return with_gatewright(cache_entries=FEW)


def gatewright_asgi() -> App:
    from gatewright.asgi import Gatewright, GuardMiddleware

    gw = Gatewright(**our_settings())
    app = plain_app()

    @app.get("/")
    async def route(request: Request) -> Any:
        return {"id": request.scope["gatewright"].id}

    return GuardMiddleware(app, gw, require=True)


def gatewright_two_routes() -> App:
    return with_free_route(with_gatewright())


def workos_two_routes() -> App:
    """PyJWT's client asks for an unknown key at most every thirty seconds; here those are over."""
    from workos.session import _get_jwks_client

    material = load()
    authenticate = workos_authenticate()
    _get_jwks_client(f"{material.base_url}/sso/jwks/{material.client_id}").cooldown_duration = 0

    async def user(request: Request) -> str:
        return authenticate(request.cookies.get(COOKIE))

    return with_free_route(guarded_by(user))


def with_gatewright(**settings: Any) -> FastAPI:
    from gatewright.fastapi import Gatewright, User

    gw = Gatewright(**our_settings(), **settings)
    app = plain_app(lifespan=gw.lifespan)

    @app.get("/")
    async def route(user: User = Depends(gw.user)) -> Any:
        return {"id": user.id}

    return app


def our_settings() -> dict[str, Any]:
    material = load()
    return {
        "base_url": material.base_url,
        "client_id": material.client_id,
        "api_key": "sk_bench",
        "cookie_password": material.cookie_password,
        "cookie_name": COOKIE,
        "app_url": "http://localhost:8000",
    }


def plain_app(**settings: Any) -> FastAPI:
    return FastAPI(openapi_url=None, **settings)


def guarded_by(dependency: Callable[..., Any]) -> FastAPI:
    app = plain_app()

    @app.get("/")
    async def route(user: str = Depends(dependency)) -> Any:
        return {"id": user}

    return app


def with_free_route(app: FastAPI) -> FastAPI:
    @app.get("/free")
    async def free() -> Any:
        return {"id": USER_ID}

    return app


def bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401)
    return token


def workos_authenticate() -> Callable[[str | None], str]:
    session = workos_session()

    def authenticate(cookie: str | None) -> str:
        answer = session(cookie)
        if not answer.authenticated:
            raise HTTPException(401)
        return answer.user["id"]

    return authenticate


def workos_session() -> Callable[[str | None], Any]:
    from workos import WorkOSClient

    material = load()
    client = WorkOSClient(api_key="sk_bench", client_id=material.client_id, base_url=material.base_url)

    def authenticate(cookie: str | None) -> Any:
        session = client.user_management.load_sealed_session(session_data=cookie or "", cookie_password=material.cookie_password)
        return session.authenticate()

    return authenticate


def fetch_keys() -> Any:
    material = load()
    with urllib.request.urlopen(f"{material.base_url}/sso/jwks/{material.client_id}", timeout=5) as answer:
        return json.load(answer)


def authlib_decode() -> Callable[[str], Any]:
    import authlib.deprecate

    # Importing it asks for every warning; joserfc, which it points to, is measured too.
    warnings.simplefilter("ignore", authlib.deprecate.AuthlibDeprecationWarning)
    from authlib.jose import JsonWebKey, JsonWebToken

    material, keys = load(), JsonWebKey.import_key_set(fetch_keys())
    tokens = JsonWebToken(["RS256"])
    options = {"iss": {"essential": True, "value": f"{material.base_url}/user_management/{material.client_id}"}}

    def decode(token: str) -> Any:
        claims = tokens.decode(token, keys, claims_options=options)
        claims.validate()
        return claims

    return decode


def joserfc_decode() -> Callable[[str], Any]:
    from joserfc import jwt
    from joserfc.jwk import KeySet

    material, keys = load(), KeySet.import_key_set(fetch_keys())
    rules = jwt.JWTClaimsRegistry(iss={"essential": True, "value": f"{material.base_url}/user_management/{material.client_id}"})

    def decode(token: str) -> Any:
        claims = jwt.decode(token, keys, algorithms=["RS256"]).claims
        rules.validate(claims)
        return claims

    return decode


def compiled_guard(cache_entries: int | None = None) -> Any:
    from gatewright._core import Guard

    material = load()
    session = {"cookie_name": COOKIE, "password": material.cookie_password}
    config: dict[str, Any] = {"base_url": material.base_url, "client_id": material.client_id, "session": session}
    guard = Guard(json.dumps(config | ({"cache_entries": cache_entries} if cache_entries else {})))
    guard.warm()
    return guard


def wait_for_keys(check: Callable[[], Any]) -> None:
    """Until `check` has more to say than that something is needed first."""
    from gatewright._core import Need

    deadline = time.monotonic() + 10
    while isinstance(check(), Need):
        if time.monotonic() > deadline:
            raise SystemExit("the guard had no keys after ten seconds")
        time.sleep(0.02)


CONTENDERS: dict[str, Callable[[], App]] = {
    app.__name__: app
    for app in (
        bare,
        cookie_only,
        workos_async,
        workos_def,
        pyjwt,
        authlib,
        joserfc,
        fastapi_users,
        gatewright_depends,
        gatewright_first_sight,
        gatewright_asgi,
        workos_two_routes,
        gatewright_two_routes,
    )
}
