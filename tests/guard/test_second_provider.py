"""A second OpenID provider beside Gatewright: its tokens are accepted as what they are, and never as ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from workos.session import seal_session_from_auth_response

from accounts import Account, create_account, sign_in_by_api
from guard.faces import BEARERS, COOKIES, Answer, ask_with_cookie, ask_with_token
from guard.guarded import Guarded, guarded_app, guarded_apps
from guard.second_provider import API, OPAQUE_API, OPAQUE_OTHER_API, OTHER_API, SecondProvider, second_provider
from guard.stand_in import StandIn, stand_in
from running_server import Server

# Everything the app knows of their claims is here, none of it in a handler.
MAPPING = {
    "roles": ["groups", "https://partner.example/roles", "realm_access.roles"],
    "permissions": [],
    "organization": ["tenant"],
    "rename": {"role:Partner Admins": "partner-admin"},
    "grants": {"role:partner-admin": ["expenses:write"], "scope:expenses:read": ["expenses:read"]},
}


def describe(provider: SecondProvider, **changes: Any) -> dict[str, Any]:
    """The provider as the app is told of it."""
    introspection = {"client_id": "api", "client_secret": "api-secret"}
    # "app" is the audience of its ID tokens; naming it must not make them access tokens.
    told = {"name": "partner", "issuer": provider.issuer, "audiences": [API, "app"], "introspection": introspection, "mapping": MAPPING}
    return {**told, **changes}


@pytest.fixture(scope="module")
def provider(server: Server, http: httpx.Client) -> Iterator[SecondProvider]:
    """Its signing key has the same name as the real server's."""
    [key, *_] = http.get(f"{server.url}/sso/jwks/{server.client_id}").json()["keys"]
    with second_provider(key["kid"]) as provider:
        # Claims named like ours, which mean nothing here, beside those the mapping knows.
        as_ours = {"permissions": ["expenses:everything"], "role": "admin", "org_id": "org_ours", "entitlements": ["all"]}
        provider.set_claims(
            "ann", groups=["Partner Admins", "staff"], **{"https://partner.example/roles": ["editor"]}, tenant="acme", **as_ours
        )
        provider.set_claims("bob", realm_access={"roles": ["reader"]}, **as_ours)
        provider.set_claims("machine", groups=["robots"], **as_ours)
        yield provider


@pytest.fixture(scope="module")
def ours(provider: SecondProvider) -> Iterator[StandIn]:
    """In the place of the real server, for what that would never sign; its key has the same name too."""
    with stand_in(kid=provider.kid) as server:
        yield server


@pytest.fixture(scope="module")
def apps(server: Server, ours: StandIn, provider: SecondProvider) -> Iterator[dict[str, Guarded]]:
    plain = {"name": "partner", "issuer": provider.issuer, "audiences": [API]}
    # The same address by another name: its metadata says another `issuer` than the one configured.
    renamed = describe(provider, issuer=provider.issuer.replace("127.0.0.1", "localhost"))
    with guarded_apps(
        {
            "": (server, {"issuers": [describe(provider)]}),
            "/ours": (ours, {"issuers": [describe(provider)]}),
            "/plain": (ours, {"issuers": [plain]}),
            "/renamed": (ours, {"issuers": [renamed]}),
        }
    ) as apps:
        yield apps


@pytest.fixture
def partnered(apps: dict[str, Guarded]) -> Guarded:
    """Guarded by the real server, with the provider as its partner."""
    return apps[""]


def assert_ann(provider: SecondProvider, answer: Answer) -> None:
    who = answer.who
    assert (who["kind"], who["id"], who["issuer"], who["organization_id"]) == ("user", "ann", provider.issuer, "acme")
    assert sorted(who["roles"]) == ["editor", "partner-admin", "staff"]
    assert sorted(who["permissions"]) == ["expenses:read", "expenses:write"]
    assert who["scopes"] == ["expenses:read"] and who["client_id"] == "app"


@pytest.mark.parametrize("face", BEARERS)
def test_a_person_is_accepted_by_key_with_mapped_permissions(face: str, partnered: Guarded, provider: SecondProvider) -> None:
    token = provider.sign_in("ann")["access_token"]
    assert token.count(".") == 2
    assert_ann(provider, BEARERS[face](partnered, token))


def test_a_person_is_accepted_by_introspection_with_the_same_permissions(partnered: Guarded, provider: SecondProvider) -> None:
    token = provider.sign_in("ann", OPAQUE_API)["access_token"]
    assert "." not in token
    for ask_face in BEARERS.values():
        assert_ann(provider, ask_face(partnered, token))
    assert ask_with_token(partnered, token, "/write").status == 200
    assert provider.list_introspected().count(token) == 1, "the answer is good for some seconds"


def test_mapped_permissions_open_the_routes_that_ask_for_them(partnered: Guarded, provider: SecondProvider) -> None:
    ann, bob = (provider.sign_in(name)["access_token"] for name in ("ann", "bob"))
    assert ask_with_token(partnered, ann, "/write").status == 200
    assert ask_with_token(partnered, ann, "/orgs/acme/report").status == 200
    assert ask_with_token(partnered, ann, "/orgs/org_ours/report").status == 403, "an organization of ours by a claim of theirs"
    refused = ask_with_token(partnered, bob, "/write")
    assert refused.status == 403 and 'error="insufficient_scope"' in (refused.challenge or "")
    assert ask_with_token(partnered, bob, "/who").who["roles"] == ["reader"]
    for token in (ann, bob):
        assert ask_with_token(partnered, token, "/admin").status == 403, "a role of ours by a claim of theirs"


@pytest.mark.parametrize("resource", [API, OPAQUE_API], ids=["by key", "by introspection"])
def test_a_machine_is_a_machine(resource: str, partnered: Guarded, provider: SecondProvider) -> None:
    token = provider.obtain_machine_token(resource)
    who = ask_with_token(partnered, token, "/machine").who
    assert (who["kind"], who["id"], who["client_id"], who["issuer"]) == ("machine", "machine", "machine", provider.issuer)
    assert (who["roles"], who["permissions"], who["organization_id"]) == (["robots"], ["expenses:read"], None)
    assert ask_with_token(partnered, token, "/me").status == 403, "a machine on a route for people"
    refused = ask_with_token(partnered, token, "/machine/write")
    assert refused.status == 403 and 'scope="expenses:write"' in (refused.challenge or "")
    wider = provider.obtain_machine_token(resource, "expenses:read expenses:write")
    assert ask_with_token(partnered, wider, "/machine/write").status == 200


def test_tokens_for_other_apps_are_refused(partnered: Guarded, provider: SecondProvider) -> None:
    for resource in (OTHER_API, OPAQUE_OTHER_API):
        assert ask_with_token(partnered, provider.obtain_machine_token(resource)).status == 401, resource
        assert ask_with_token(partnered, provider.sign_in("ann", resource)["access_token"]).status == 401, resource


def test_row_17_their_other_tokens_open_nothing(partnered: Guarded, provider: SecondProvider) -> None:
    answer = provider.sign_in("ann")
    for face, ask_face in BEARERS.items():
        assert ask_face(partnered, answer["id_token"]).status == 401, f"ID token: {face}"
        assert ask_face(partnered, answer["refresh_token"]).status == 401, f"refresh token: {face}"


def test_a_revoked_opaque_token_is_refused(partnered: Guarded, provider: SecondProvider) -> None:
    token = provider.obtain_machine_token(OPAQUE_API)
    provider.revoke(token)
    refused = ask_with_token(partnered, token, "/machine")
    assert refused.status == 401 and 'error="invalid_token"' in (refused.challenge or "")


def test_a_route_that_wants_it_fresh_hears_of_a_revocation_at_once(partnered: Guarded, provider: SecondProvider) -> None:
    token = provider.sign_in("ann", OPAQUE_API)["access_token"]
    assert ask_with_token(partnered, token, "/fresh").status == 200
    assert ask_with_token(partnered, token, "/fresh").status == 200
    assert provider.list_introspected().count(token) >= 2, "a fresh answer was kept"
    provider.revoke(token, "app")
    assert ask_with_token(partnered, token, "/fresh").status == 401


def test_garbage_is_refused_and_asked_about_once(partnered: Guarded, provider: SecondProvider) -> None:
    for _ in range(5):
        assert ask_with_token(partnered, "never-given-out-" + "x" * 30).status == 401
    assert provider.list_introspected().count("never-given-out-" + "x" * 30) == 1


def test_their_tokens_are_never_sessions_of_ours(partnered: Guarded, provider: SecondProvider, server: Server, account: Account) -> None:
    """Sealed with the right cookie key, as somebody could who has the key but no account here."""
    tokens = [provider.sign_in("ann")["access_token"], provider.sign_in("ann", OPAQUE_API)["access_token"], provider.obtain_machine_token()]
    for token in tokens:
        cookie = seal_session_from_auth_response(
            access_token=token,
            refresh_token="worthless",
            user={"id": account.id, "email": account.email},
            cookie_password=server.cookie_password,
        )
        for face, ask_face in COOKIES.items():
            assert ask_face(partnered, cookie).status == 401, face


def test_what_they_sign_in_our_name_is_refused(partnered: Guarded, provider: SecondProvider, server: Server, account: Account) -> None:
    """The kid is that of our key, so the only thing wrong is whose key it is."""
    now = int(time.time())
    sessions = f"{server.url}/user_management/{server.client_id}"
    claims = {"sub": account.id, "sid": "session_01STOLEN00000000000000000", "iat": now, "exp": now + 300, "client_id": server.client_id}
    for issuer, typ in ((sessions, "JWT"), (server.url, "at+jwt"), (f"{server.url}/", "at+jwt")):
        for audience in ({}, {"aud": server.client_id}, {"aud": [server.client_id, API]}):
            forged = provider.sign({**claims, **audience, "iss": issuer}, typ=typ)
            for face, ask_face in BEARERS.items():
                assert ask_face(partnered, forged).status == 401, (issuer, audience, face)
    # In its own name it may say what it likes: it stays its own.
    own = provider.sign({**claims, "iss": provider.issuer, "aud": API, "email": account.email, "permissions": ["x"], "roles": ["admin"]})
    who = ask_with_token(partnered, own).who
    assert (who["issuer"], who["id"], who["permissions"], who["roles"]) == (provider.issuer, account.id, [], [])
    assert ask_with_token(partnered, own, "/admin").status == 403


def test_our_tokens_work_beside_theirs_and_are_never_shown_to_them(
    partnered: Guarded, provider: SecondProvider, server: Server, http: httpx.Client
) -> None:
    account = create_account(server)
    ours = sign_in_by_api(server, http, account)["access_token"]
    assert jwt.get_unverified_header(ours)["kid"] == provider.kid, "the two keys were meant to share a name"
    header, payload, signature = ours.split(".")
    assert ask_with_token(partnered, ours).who["id"] == account.id
    broken = [f"{header}.{payload}.{signature[:-6]}AAAAAA", f"{header}.{payload}.", f"{ours}.x", f"{header}.{payload}"]
    for token in broken:
        for ask_face in BEARERS.values():
            assert ask_face(partnered, token).status == 401, token
    assert ask_with_cookie(partnered, ours).status == 401
    for token in (ours, *broken, payload):
        assert not provider.list_given_away(token), "the provider saw a token of ours"


def test_our_expired_tokens_and_unknown_keys_are_not_shown_to_them(
    apps: dict[str, Guarded], ours: StandIn, provider: SecondProvider
) -> None:
    app = apps["/ours"]
    assert ask_with_token(app, ours.mint()).status == 200
    for token in (ours.mint(ours.expired_claims()), ours.mint(header={"kid": "key_unknown"}), ours.mint(iss="https://partner.example")):
        assert ask_with_token(app, token).status == 401
        assert not provider.list_given_away(token)
    ours.moods["/"] = "broken"
    away = ours.mint(header={"kid": "key_unknown_too"})
    assert ask_with_token(app, away).status in {401, 503}
    ours.moods.clear()
    assert not provider.list_given_away(away)


def test_without_a_mapping_the_usual_names_count_and_without_introspection_opaque_tokens_do_not(
    apps: dict[str, Guarded], provider: SecondProvider
) -> None:
    who = ask_with_token(apps["/plain"], provider.sign_in("bob")["access_token"]).who
    assert (who["permissions"], who["roles"], who["organization_id"]) == (["expenses:everything"], ["admin"], "org_ours")
    opaque = provider.obtain_machine_token(OPAQUE_API)
    assert ask_with_token(apps["/plain"], opaque).status == 401
    assert opaque not in provider.list_introspected()


def test_a_provider_that_calls_itself_differently_is_not_believed(apps: dict[str, Guarded], provider: SecondProvider) -> None:
    assert ask_with_token(apps["/renamed"], provider.obtain_machine_token()).status == 401
    now = int(time.time())
    named = provider.issuer.replace("127.0.0.1", "localhost")
    lie = provider.sign({"iss": named, "sub": "x", "aud": API, "iat": now, "exp": now + 300, "client_id": "x"})
    assert ask_with_token(apps["/renamed"], lie).status == 503, "its keys were taken although it is somebody else"


def test_with_the_provider_gone_its_tokens_go_on_and_opaque_ones_wait(issuer: StandIn) -> None:
    with second_provider("key_1") as provider, guarded_app(issuer, issuers=[describe(provider)]) as app:
        known, opaque, unseen = provider.obtain_machine_token(), provider.obtain_machine_token(OPAQUE_API), provider.obtain_machine_token()
        assert ask_with_token(app, known).status == 200
        provider.script.stop()
        assert ask_with_token(app, known).status == 200
        assert ask_with_token(app, unseen).status == 200, "keys are kept while their issuer is away"
        waits = ask_with_token(app, opaque)
        assert waits.status == 503 and waits.retry_after
        assert ask_with_token(app, issuer.mint()).status == 200
