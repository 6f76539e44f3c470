"""Who is let in, who is not, and what they are told."""

import base64
import json
import time
from typing import Annotated, Any

import fastapi
import pytest
from asgi_calls import bearer, cookie_header
from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.testclient import TestClient

from conftest import forgetful
from gatewright._core import TestKey as Key
from gatewright.fastapi import Gatewright, Principal, User
from gatewright.testing import TestIssuer


def test_nobody_is_asked_to_sign_in_without_an_error_code(client: TestClient) -> None:
    answer = client.get("/user")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {"detail": "Sign in, or send an access token."}


@pytest.mark.parametrize("path", ["/user", "/async-user", "/optional"])
def test_a_person_comes_in_by_token_and_by_cookie(path: str, client: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    assert client.get(path, headers=bearer(issuer.user_token("user_1"))).json() == "user_1"
    answer = client.get(path, headers=cookie_header(issuer.cookies(gw, "user_2")))
    assert (answer.status_code, answer.json()) == (200, "user_2")
    assert "set-cookie" not in answer.headers


def forged(issuer: TestIssuer) -> dict[str, str]:
    now = int(time.time())
    good = {"iss": issuer.issuer, "sub": "user_1", "sid": "session_1", "iat": now, "exp": now + 300}
    head = {"alg": "RS256", "typ": "JWT", "kid": issuer.key.kid}
    token = issuer.sign(good)
    first, body, signature = token.split(".")

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return {
        "signature cut": f"{first}.{body}.",
        "signature changed": f"{first}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "body changed": f"{first}.{part({**good, 'sub': 'user_2'})}.{signature}",
        "alg none": f"{part({**head, 'alg': 'none'})}.{body}.",
        "alg HS256": f"{part({**head, 'alg': 'HS256'})}.{body}.{signature}",
        "signed by another key of the same name": issuer.sign(good, key=Key(issuer.key.kid)),
        "expired": issuer.user_token(expires_in=-60),
        "not yet": issuer.sign({**good, "nbf": now + 600}),
        "another issuer": issuer.sign({**good, "iss": "https://elsewhere.example"}),
        "issuer with a slash more": issuer.sign({**good, "iss": issuer.issuer + "/"}),
        "no issuer": issuer.sign({name: value for name, value in good.items() if name != "iss"}),
        "another audience": issuer.sign({**good, "aud": "someone-else"}),
        "no session": issuer.sign({name: value for name, value in good.items() if name != "sid"}),
        "no subject": issuer.sign({name: value for name, value in good.items() if name != "sub"}),
        "never expires": issuer.sign({name: value for name, value in good.items() if name != "exp"}),
        "id token": issuer.sign({**good, "nonce": "n", "at_hash": "h"}),
        "typ of something else": issuer.sign(good, {**head, "typ": "logout+jwt"}),
        "critical header": issuer.sign(good, {**head, "crit": ["exp"]}),
        "not a token": "not-a-token",
        "too many parts": token + ".x",
    }


@pytest.mark.parametrize("path", ["/user", "/optional", "/principal", "/permission", "/auth/me"])
def test_a_forged_token_is_refused_everywhere(path: str, client: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    cookies = cookie_header(issuer.cookies(gw))
    for case, token in forged(issuer).items():
        # The good cookie beside it must not help.
        answer = client.get(path, headers={**bearer(token), **cookies})
        assert answer.status_code == 401, (case, answer.text)
        assert 'error="invalid_token"' in answer.headers["www-authenticate"], case
        assert token not in answer.text


def test_a_cookie_sealed_by_somebody_else_is_nobody(client: TestClient, issuer: TestIssuer) -> None:
    with TestIssuer() as other:
        theirs = Gatewright(**other.settings())
        cookies = cookie_header(other.cookies(theirs))
    answer = client.get("/user", headers=cookies)
    assert answer.status_code == 401
    assert client.get("/optional", headers=cookies).json() is None
    # Another process may know its password (a change on the way through many nodes): it is not ours to delete.
    assert "set-cookie" not in client.get("/optional", headers=cookies).headers


def test_two_credentials_in_one_request_are_a_mistake_of_the_caller(client: TestClient, issuer: TestIssuer) -> None:
    answer = client.get("/principal", headers={**bearer(issuer.user_token()), "x-api-key": issuer.new_api_key()})
    assert answer.status_code == 400
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]


def test_any_one_of_the_roles_will_do(client: TestClient, issuer: TestIssuer) -> None:
    assert client.get("/role", headers=bearer(issuer.user_token(role="owner"))).status_code == 200
    answer = client.get("/role", headers=bearer(issuer.user_token(role="member")))
    assert answer.status_code == 403
    assert answer.json() == {"detail": "This needs the role admin or owner."}
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_all_of_the_permissions_are_needed_and_the_missing_one_is_named(client: TestClient, issuer: TestIssuer) -> None:
    assert client.get("/permission", headers=bearer(issuer.user_token("u", permissions=["a:read", "b:read"]))).json() == "u"
    answer = client.get("/permission", headers=bearer(issuer.user_token(permissions=["a:read"])))
    assert (answer.status_code, answer.json()) == (403, {"detail": "This needs the permission b:read."})


def test_a_step_up_says_what_the_sign_in_must_be(client: TestClient, issuer: TestIssuer) -> None:
    assert client.get("/mfa", headers=bearer(issuer.user_token(mfa=True))).status_code == 200
    for weak in (issuer.user_token(), issuer.user_token(mfa=True, signed_in_ago=400)):
        answer = client.get("/mfa", headers=bearer(weak))
        assert answer.status_code == 401
        challenge = answer.headers["www-authenticate"]
        assert 'error="insufficient_user_authentication"' in challenge
        assert 'max_age="300"' in challenge and 'acr_values="aal2"' in challenge


def test_support_that_acts_as_a_person_is_told_so_and_kept_out_where_asked(client: TestClient, issuer: TestIssuer) -> None:
    acted = bearer(issuer.user_token(act={"sub": "sam@support.test"}))
    assert client.get("/role", headers=bearer(issuer.user_token(role="admin", act={"sub": "sam@support.test"}))).status_code == 200
    assert client.get("/own", headers=bearer(issuer.user_token())).status_code == 200
    answer = client.get("/own", headers=acted)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Only the user themself may do this."})


def test_the_organization_in_the_path_must_be_the_callers(client: TestClient, issuer: TestIssuer) -> None:
    token = bearer(issuer.user_token(org="org_a"))
    assert client.get("/orgs/org_a/report", headers=token).json() == "org_a"
    assert client.get("/orgs/org_b/report", headers=token).status_code == 403
    assert client.get("/orgs/ORG_A/report", headers=token).status_code == 403
    assert client.get("/orgs/org_a/report", headers=bearer(issuer.user_token())).status_code == 403
    assert client.get("/some-org", headers=token).status_code == 200
    assert client.get("/some-org", headers=bearer(issuer.user_token())).status_code == 403


def test_a_guard_bound_to_a_parameter_that_the_path_does_not_have_says_so(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI()

    @app.get("/report", dependencies=[Depends(gw.requires(org="{org_id}"))])
    def report() -> None: ...

    with pytest.raises(RuntimeError, match="which this route's path does not have"):
        TestClient(app).get("/report", headers=bearer(issuer.user_token(org="org_a")))


def test_machines_and_people_are_told_apart(client: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    machine = bearer(issuer.machine_token("client_9", scopes=["ingest:write", "other"]))
    assert client.post("/ingest", headers=machine).json() == "client_9"
    assert client.get("/user", headers=machine).status_code == 403
    assert client.get("/optional", headers=machine).status_code == 403
    assert client.get("/principal", headers=machine).json() == "machine client_9"
    assert client.post("/ingest", headers=bearer(issuer.user_token())).status_code == 403
    assert client.post("/ingest", headers={**cookie_header(issuer.cookies(gw)), "sec-fetch-site": "same-origin"}).status_code == 403
    answer = client.post("/ingest", headers=bearer(issuer.machine_token(scopes=["other"])))
    assert answer.status_code == 403
    assert 'scope="ingest:write"' in answer.headers["www-authenticate"]


def test_api_keys_come_in_either_header_and_are_asked_about_once(client: TestClient, issuer: TestIssuer) -> None:
    key = issuer.new_api_key(permissions=["items:read"], org="org_7")
    assert client.get("/items", headers={"x-api-key": key}).json() == "org_7"
    assert client.get("/items", headers=bearer(key)).json() == "org_7"
    assert issuer.counts["/api_keys/validations"] == 1
    assert client.get("/items", headers={"x-api-key": issuer.new_api_key()}).status_code == 403
    assert client.get("/items", headers={"x-api-key": "sk_unknown"}).status_code == 401
    assert client.get("/user", headers={"x-api-key": key}).status_code == 403


def test_fresh_asks_the_server_every_time(client: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    cookies = cookie_header(issuer.cookies(gw, "user_1", session_id="session_1"))
    path = "/user_management/users/user_1/sessions"
    for times in (1, 2):
        assert client.get("/fresh", headers=cookies).status_code == 200
        assert issuer.counts[path] == times
    issuer.end_session("session_1", publish=False)
    assert client.get("/fresh", headers=cookies).status_code == 401
    # Everywhere else it counts until its access token ends.
    assert client.get("/user", headers=cookies).status_code == 200


def test_who_is_revoked_here_is_refused_at_once(client: TestClient, issuer: TestIssuer, gw: Gatewright) -> None:
    token = bearer(issuer.user_token("user_1", session_id="session_1"))
    other = bearer(issuer.user_token("user_1", session_id="session_2"))
    assert client.get("/user", headers=token).status_code == 200
    gw.revoke(session_id="session_1")
    answer = client.get("/user", headers=token)
    assert (answer.status_code, answer.json()["detail"]) == (401, "The credential has been revoked.")
    assert client.get("/optional", headers=token).status_code == 401
    assert client.get("/user", headers=other).status_code == 200
    with pytest.raises(ValueError):
        gw.revoke()


def test_an_unprotected_route_needs_nobody(client: TestClient, issuer: TestIssuer) -> None:
    assert client.get("/health", headers=bearer("rubbish")).status_code == 200
    assert client.get("/health", headers={"x-api-key": "sk_unknown"}).status_code == 200
    assert issuer.counts["/api_keys/validations"] == 0


def test_guards_are_equal_by_what_they_demand(gw: Gatewright, issuer: TestIssuer) -> None:
    assert gw.requires(role="admin") == gw.requires(roles=["admin"])
    assert hash(gw.requires(role="admin")) == hash(gw.requires(roles=["admin"]))
    assert gw.requires() == gw.user and gw.user.optional == gw.user.optional
    assert gw.user.optional != gw.user
    assert gw.requires(role="admin") != gw.requires(role="owner")
    assert gw.requires(kind="machine", scopes=["x"]) == gw.machine(scope="x")
    assert Gatewright(**issuer.settings()).user != gw.user
    assert len({gw.public, gw.public, gw.user, gw.requires()}) == 2
    assert "admin" in repr(gw.requires(role="admin"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kind": "robot"}, "robot"),
        ({"org": "org_id"}, r"\{org_id\}"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"role": ""}, "role"),
        ({"permissions": [1]}, "permission"),
        ({"kind": "machine", "mfa": True}, "sign in again"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_when_the_guard_is_made(arguments: dict[str, Any], match: str, gw: Gatewright) -> None:
    with pytest.raises(ValueError, match=match):
        gw.requires(**arguments)


def test_a_permission_given_as_one_text_is_one_permission(gw: Gatewright) -> None:
    assert gw.requires(permissions="a:read").facts.permissions == ("a:read",)


def test_several_guards_of_a_request_verify_once(gw: Gatewright, issuer: TestIssuer) -> None:
    router = APIRouter(dependencies=[Depends(gw.requires(role="admin"))])

    @router.get("/both")
    def both(user: Annotated[User, Depends(gw.user)], again: Annotated[User, Depends(gw.requires(permission="p"))]) -> str:
        assert user is again
        return user.id

    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.principal)])
    app.include_router(router)
    with forgetful(app) as client:
        assert client.get("/both", headers=bearer(issuer.user_token("u", role="admin", permissions=["p"]))).json() == "u"
        before = gw.stats()
        assert client.get("/both", headers=bearer(issuer.user_token("u", role="admin", permissions=["p"]))).json() == "u"
        # One look for the three guards, and none in vain: the token was never seen before.
        after = gw.stats()
        assert (after["cache_misses"] - before["cache_misses"], after["cache_hits"] - before["cache_hits"]) == (1, 0)
        assert client.get("/both", headers=bearer(issuer.user_token(role="admin"))).status_code == 403
        assert client.get("/both", headers=bearer(issuer.user_token(permissions=["p"]))).status_code == 403


ROUTES = {
    "GET": "/user /optional /principal /role /permission /mfa /fresh /orgs/org_1/report /orgs/org_2/report /some-org /items",
    "POST": "/write /write-from-anywhere /ingest",
}
CALLERS = "nobody, token, cookie, cookie from another site, expired session, bad token, two credentials, machine, key"


@pytest.mark.parametrize("caller", CALLERS.split(", "))
def test_the_short_way_in_decides_as_the_long_one(
    caller: str, client: TestClient, app: FastAPI, gw: Gatewright, issuer: TestIssuer
) -> None:
    may: dict[str, Any] = {"role": "admin", "permissions": ["a:read", "b:read"], "org": "org_1"}
    token, key = bearer(issuer.user_token("u", **may)), {"x-api-key": issuer.new_api_key(permissions=["items:read"], org="org_1")}
    cookie = cookie_header(issuer.cookies(gw, "u", **may))
    headers = {
        "nobody": {},
        "token": token,
        "cookie": {**cookie, "sec-fetch-site": "same-origin"},
        "cookie from another site": {**cookie, "sec-fetch-site": "cross-site"},
        "expired session": {**cookie_header(issuer.cookies(gw, "u", expires_in=-60, **may)), "sec-fetch-site": "same-origin"},
        "bad token": {"authorization": token["authorization"][:-8] + "AAAAAAAA"},
        "two credentials": {**token, **key},
        "machine": bearer(issuer.machine_token(scopes=["ingest:write"])),
        "key": key,
    }[caller]

    def ask() -> list[Any]:
        answers = [client.request(method, path, headers=headers) for method, paths in ROUTES.items() for path in paths.split()]
        return [(answer.status_code, answer.text, answer.headers.multi_items()) for answer in answers]

    ask()
    short = ask()
    # With an override, whatever it is of, requests are looked at in every detail.
    app.dependency_overrides[ask] = ask
    assert ask() == short


def test_a_lenient_guard_first_does_not_weaken_the_next(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.requires(csrf=False))])

    @app.post("/strict", dependencies=[Depends(gw.user)])
    def strict() -> str:
        return "in"

    @app.get("/fresh", dependencies=[Depends(gw.requires(fresh=True))])
    def fresh() -> str:
        return "in"

    with forgetful(app) as client:
        cookies = cookie_header(issuer.cookies(gw, session_id="session_1"))
        assert client.post("/strict", headers={**cookies, "sec-fetch-site": "cross-site"}).status_code == 403
        assert client.post("/strict", headers={**cookies, "sec-fetch-site": "same-origin"}).status_code == 200
        issuer.end_session("session_1", publish=False)
        assert client.get("/fresh", headers=cookies).status_code == 401


def test_a_guard_that_asked_nobody_first_does_not_answer_for_a_fresh_one(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.user)])

    @app.get("/fresh", dependencies=[Depends(gw.requires(fresh=True))])
    def fresh() -> str:
        return "in"

    with forgetful(app) as client:
        cookies = cookie_header(issuer.cookies(gw, session_id="session_1", expires_in=-60))
        answer = client.get("/fresh", headers=cookies)
        # Both guards saw the renewed session; it is set once.
        assert (answer.status_code, len(answer.headers.get_list("set-cookie"))) == (200, 1)
        issuer.end_session("session_1", publish=False)
        assert client.get("/fresh", headers=cookies).status_code == 401


def test_the_guard_can_be_called_by_hand(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI(lifespan=gw.lifespan)

    @app.get("/by-hand", dependencies=[Depends(gw.public)])
    async def by_hand(request: Request) -> str:
        return (await gw.user(request)).id

    with forgetful(app) as client:
        assert client.get("/by-hand", headers=bearer(issuer.user_token("u"))).json() == "u"
        assert client.get("/by-hand").status_code == 401


def test_scopes_given_to_security_are_demanded(gw: Gatewright, issuer: TestIssuer) -> None:
    app = FastAPI(lifespan=gw.lifespan)

    @app.get("/read")
    def read(who: Annotated[Principal, Security(gw.principal, scopes=["read"])]) -> str:
        return who.id

    @app.get("/write", dependencies=[Security(gw.machine(scope="read"), scopes=["write"])])
    def write(who: Annotated[Principal, Depends(gw.principal)]) -> str:
        return who.id

    with forgetful(app) as client:
        reader, writer = (bearer(issuer.machine_token(scopes=scopes)) for scopes in (["read"], ["read", "write"]))
        assert [client.get("/read", headers=headers).status_code for headers in (reader, writer)] == [200, 200]
        assert [client.get("/write", headers=headers).status_code for headers in (reader, writer)] == [403, 200]
        assert client.get("/read", headers=bearer(issuer.machine_token(scopes=["write"]))).status_code == 403
        if tuple(int(part) for part in fastapi.__version__.split(".")[:2]) >= (0, 128):  # Older ones leave them out of the document.
            document = client.get("/openapi.json").json()
            assert {"GatewrightBearer": ["read"]} in document["paths"]["/read"]["get"]["security"]


def test_the_app_of_these_tests_is_covered(app: FastAPI, gw: Gatewright) -> None:
    report = gw.assert_covered(app)
    verdicts = {route.path: route.verdict for route in report.routes}
    assert (
        verdicts["/user"] == "guarded"
        and verdicts["/health"] == "public"
        and verdicts["/auth/login"] == "public"
        and verdicts["/auth/me"] == "guarded"
    )
    app.add_api_route("/forgotten", lambda: None)
    with pytest.raises(Exception, match="/forgotten"):
        gw.assert_covered(app)
