"""What apps use to test themselves."""

import time
from importlib.metadata import entry_points
from typing import Any

import pytest
from asgi_calls import bearer
from fastapi import FastAPI
from fastapi.testclient import TestClient

from conftest import build_app, forgetful
from gatewright.asgi import GuardMiddleware, Requirement
from gatewright.fastapi import Gatewright, User
from gatewright.testing import TestIssuer, acting_as

pytest_plugins = ["pytester"]


def test_acting_as_somebody_and_then_nobody_again(client: TestClient, app: FastAPI, gw: Gatewright) -> None:
    assert client.get("/user").status_code == 401
    with acting_as(app, gw, id="user_9", email="nine@example.com", org="org_9", role="owner", plan="gold") as user:
        assert client.get("/user").json() == client.get("/optional").json() == "user_9"
        me = client.get("/auth/me").json()
        assert (me["email"], me["organization_id"], me["roles"]) == ("nine@example.com", "org_9", ["owner"])
        assert user.claims["plan"] == "gold"
        assert client.post("/write").status_code == 200
        with acting_as(app, gw, id="user_10"):
            assert client.get("/user").json() == "user_10"
        assert client.get("/user").json() == "user_9"
    assert client.get("/user").status_code == 401


def test_what_a_route_demands_still_counts(client: TestClient, app: FastAPI, gw: Gatewright) -> None:
    with acting_as(app, gw, permissions=["a:read"]):
        answer = client.get("/permission")
        assert (answer.status_code, answer.json()) == (403, {"detail": "This needs the permission b:read."})
    with acting_as(app, gw, permissions=["a:read", "b:read"]):
        assert client.get("/permission").status_code == 200
    with acting_as(app, gw, org="org_a"):
        assert client.get("/orgs/org_a/report").status_code == 200
        assert client.get("/orgs/org_b/report").status_code == 403
    with acting_as(app, gw):
        assert client.get("/mfa").status_code == 401
    with acting_as(app, gw, mfa=True):
        assert client.get("/mfa").status_code == 200
    with acting_as(app, gw, mfa=True, signed_in_ago=600):
        assert client.get("/mfa").status_code == 401
    with acting_as(app, gw, mfa=True) as caller:
        assert (caller.amr, caller.acr) == (("pwd", "otp", "mfa"), "aal2")
    with acting_as(app, gw, amr=["swk", "user", "mfa"]):
        assert client.get("/mfa").status_code == 200
    too_little: list[dict[str, Any]] = [{"amr": ["otp", "sms"]}, {"amr": ["pwd", "otp"], "acr": "aal1"}, {"acr": "urn:example:loa3"}]
    for weak in too_little:
        with acting_as(app, gw, **weak):
            assert client.get("/mfa").status_code == 401, weak
    with acting_as(app, gw, kind="machine", scopes=["ingest:write"]):
        assert client.post("/ingest").status_code == 200
        assert client.get("/user").status_code == 403
    with acting_as(app, gw, kind="api_key", permissions=["items:read"], org="org_1"):
        assert client.get("/items").json() == "org_1"
    with acting_as(app, gw, User("mine", roles=["admin"])):
        assert client.get("/role").status_code == 200


def test_acting_as_reaches_mounted_apps_and_the_middleware(gw: Gatewright) -> None:
    outer = FastAPI()
    outer.mount("/inner", build_app(gw))
    client = forgetful(outer)
    with acting_as(outer, gw, id="user_1"):
        assert client.get("/inner/user").json() == "user_1"

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["gatewright"].id.encode()})

    wrapped = GuardMiddleware(plain, gw, require=Requirement(roles=["admin"]))
    with acting_as(wrapped, gw, id="user_2", role="admin"):
        assert forgetful(wrapped).get("/").text == "user_2"
    with acting_as(wrapped, gw):
        assert forgetful(wrapped).get("/").status_code == 403


def test_acting_in_an_app_of_another_gatewright_is_a_mistake(app: FastAPI, issuer: TestIssuer) -> None:
    with pytest.raises(RuntimeError, match="another Gatewright"), acting_as(app, Gatewright(**issuer.settings())):
        pass
    with pytest.raises(TypeError), acting_as(app, app):  # type: ignore[arg-type]
        pass


def test_one_override_stands_in_for_the_caller_everywhere(client: TestClient, app: FastAPI, gw: Gatewright) -> None:
    async def somebody() -> User:
        return User("user_1", permissions=["a:read", "b:read"])

    app.dependency_overrides[gw.principal] = somebody
    assert client.get("/user").json() == client.get("/permission").json() == "user_1"
    assert client.get("/role").status_code == 403
    assert client.post("/ingest").status_code == 403
    app.dependency_overrides[gw.principal] = lambda: None
    assert client.get("/user").status_code == 401
    assert client.get("/optional").json() is None
    app.dependency_overrides.clear()
    assert client.get("/user").status_code == 401


def test_one_guard_is_overridden_by_an_equal_one(client: TestClient, app: FastAPI, gw: Gatewright) -> None:
    app.dependency_overrides[gw.requires(permissions=["a:read", "b:read"])] = lambda: User("user_5")
    assert client.get("/permission").json() == "user_5"
    assert client.get("/user").status_code == 401


def test_the_test_issuer_counts_and_ends(issuer: TestIssuer, gw: Gatewright) -> None:
    with forgetful(build_app(gw)) as client:
        assert client.get("/user", headers=bearer(issuer.user_token())).status_code == 200
        assert issuer.counts[f"/sso/jwks/{issuer.client_id}"] == 1
        assert client.get("/user", headers=bearer(issuer.user_token(expires_in=-60))).status_code == 401
        assert client.get("/user", headers=bearer(issuer.user_token(sub="user_7"))).json() == "user_7"
    began = time.monotonic()
    issuer.close()
    assert time.monotonic() - began < 1


def test_the_fixtures_of_the_plugin_work_in_a_suite_of_their_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from gatewright.fastapi import Gatewright

        def test_real(gatewright_server):
            import urllib.request
            with urllib.request.urlopen(gatewright_server.url + "/health") as answer:
                assert answer.status == 200
            assert Gatewright(**gatewright_server.settings()).settings.base_url == gatewright_server.url
            assert Gatewright.from_env(environ=gatewright_server.environment()).settings.client_id == gatewright_server.client_id

        def test_stand_in(test_issuer):
            assert test_issuer.user_token().count(".") == 2
        """
    )
    # The wheel brings the plugin along; beside the bare sources it has to be named.
    installed = any(entry.name == "gatewright" for entry in entry_points(group="pytest11"))
    pytester.runpytest_subprocess("-q", *([] if installed else ["-p", "gatewright.testing.plugin"])).assert_outcomes(passed=2)
