"""The OpenAPI document tells every way in."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Security
from fastapi.security import HTTPBasic

from conftest import build_app, forgetful
from gatewright.fastapi import Gatewright, User
from gatewright.testing import TestIssuer


@pytest.fixture
def document(app: FastAPI) -> Any:
    with forgetful(app) as client:
        return client.get("/openapi.json").json()


def ways(document: Any, path: str, method: str = "get") -> Any:
    return document["paths"][path][method].get("security")


def test_every_guard_names_its_ways_in(document: Any) -> None:
    oauth, cookie = {"Gatewright": []}, {"GatewrightSession": []}
    assert ways(document, "/user") == [oauth, cookie]
    assert ways(document, "/optional") == [oauth, cookie, {}]
    assert ways(document, "/principal") == [oauth, cookie, {"GatewrightBearer": []}, {"GatewrightApiKey": []}]
    assert ways(document, "/ingest", "post") == [{"GatewrightBearer": ["ingest:write"]}]
    assert ways(document, "/items") == [{"GatewrightApiKey": []}]
    assert ways(document, "/health") is None
    schemes = document["components"]["securitySchemes"]
    assert set(schemes) == {"Gatewright", "GatewrightSession", "GatewrightBearer", "GatewrightApiKey"}
    assert schemes["GatewrightSession"]["name"] == "wos_session" and schemes["GatewrightSession"]["in"] == "cookie"


def test_the_authorize_button_knows_where_to_go(app: FastAPI, document: Any, issuer: TestIssuer) -> None:
    flow = document["components"]["securitySchemes"]["Gatewright"]["flows"]["authorizationCode"]
    assert flow["authorizationUrl"] == f"{issuer.url}/user_management/authorize"
    assert flow["tokenUrl"] == f"{issuer.url}/user_management/authenticate"
    with forgetful(app) as client:
        page = client.get("/docs").text
    assert f'"clientId": "{issuer.client_id}"' in page
    assert '"usePkceWithAuthorizationCodeGrant": true' in page and '"provider": "authkit"' in page


def test_refusals_are_documented(document: Any) -> None:
    responses = document["paths"]["/permission"]["get"]["responses"]
    assert "401" in responses and "a:read" in responses["403"]["description"]
    assert "401" not in document["paths"]["/optional"]["get"]["responses"]
    assert "401" not in document["paths"]["/health"]["get"]["responses"]


def test_guards_of_router_and_route_are_one_demand(gw: Gatewright) -> None:
    app = FastAPI(lifespan=gw.lifespan, dependencies=[Depends(gw.principal)])

    @app.get("/both", dependencies=[Depends(gw.requires(scope="read"))])
    def both(user: Annotated[User | None, Depends(gw.user.optional)]) -> None: ...

    @app.get("/mixed", dependencies=[Security(HTTPBasic())])
    def mixed() -> None: ...

    with forgetful(app) as client:
        document = client.get("/openapi.json").json()
    assert ways(document, "/both") == [{"Gatewright": ["read"]}]
    assert document["components"]["securitySchemes"]["Gatewright"]["flows"]["authorizationCode"]["scopes"] == {"read": ""}
    assert {"HTTPBasic": []} in ways(document, "/mixed") and "HTTPBasic" in document["components"]["securitySchemes"]


def test_without_cookies_and_keys_they_are_not_offered(issuer: TestIssuer) -> None:
    gw = Gatewright(**issuer.settings(cookie_password=None, api_key=None))
    app = FastAPI(lifespan=gw.lifespan)

    @app.get("/principal", dependencies=[Depends(gw.principal)])
    def principal() -> None: ...

    with forgetful(app) as client:
        assert ways(client.get("/openapi.json").json(), "/principal") == [{"Gatewright": []}, {"GatewrightBearer": []}]


def test_without_lifespan_the_document_is_right_but_shorter(gw: Gatewright) -> None:
    client = forgetful(build_app(gw))
    document = client.get("/openapi.json").json()
    assert ways(document, "/user") == [{"Gatewright": []}]
    client.get("/user")
    assert ways(client.get("/openapi.json").json(), "/user") == [{"Gatewright": []}, {"GatewrightSession": []}]


def test_mounted_apps_and_apps_without_guards(gw: Gatewright) -> None:
    outer = FastAPI(lifespan=gw.lifespan)
    outer.mount("/inner", build_app(gw))

    @outer.get("/open")
    def open_route() -> None: ...

    with forgetful(outer) as client:
        assert "components" not in client.get("/openapi.json").json()
        assert {"GatewrightSession": []} in ways(client.get("/inner/openapi.json").json(), "/user")


def test_an_openapi_function_of_the_app_is_kept(gw: Gatewright) -> None:
    app = build_app(gw)
    usual = app.openapi

    def custom() -> Any:
        document = usual()
        document["info"]["title"] = "Mine"
        return document

    app.openapi = custom  # type: ignore[method-assign]
    with forgetful(app) as client:
        document = client.get("/openapi.json").json()
        assert document["info"]["title"] == "Mine" and {"GatewrightSession": []} in ways(document, "/user")
