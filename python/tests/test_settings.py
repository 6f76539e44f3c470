"""A mistake in the configuration is one line that says what to do; there is no network at construction."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gatewright.fastapi import Claims, Gatewright, Introspection, Issuer, SettingsError
from gatewright.testing import TestIssuer

FERNET = "riG5bNntnifWQPB2Gp9Zojj1B4-gAtsYZRW7S_C9p2A="
ENVIRONMENT = {
    "WORKOS_BASE_URL": "http://localhost:4700",
    "WORKOS_API_KEY": "sk_test_1",
    "WORKOS_CLIENT_ID": "client_1",
    "WORKOS_COOKIE_PASSWORD": FERNET,
}


def test_everything_is_read_from_the_environment(tmp_path: Path) -> None:
    issuers = tmp_path / "issuers.json"
    issuers.write_text(
        json.dumps({"issuers": [{"name": "okta", "issuer": "https://dev.okta.com/oauth2/default", "audiences": ["api://x"]}]})
    )
    gw = Gatewright.from_env(
        environ={
            "GATEWRIGHT_URL": "https://id.example.com/",
            "WORKOS_API_KEY": "sk_1",
            "WORKOS_CLIENT_ID": "client_1",
            "WORKOS_COOKIE_PASSWORD": FERNET,
            "WORKOS_COOKIE_NAME": "__Host-session",
            "APP_URL": "https://app.example.com/",
            "GATEWRIGHT_TRUSTED_ORIGINS": "https://a.example.com, https://b.example.com",
            "GATEWRIGHT_AUDIENCES": "api://one api://two",
            "GATEWRIGHT_ISSUERS": str(issuers),
        },
        redirect_to_login=True,
    )
    settings = gw.settings
    assert (settings.base_url, settings.app_url, settings.cookie_name) == (
        "https://id.example.com",
        "https://app.example.com",
        "__Host-session",
    )
    assert settings.trusted_origins == ("https://a.example.com", "https://b.example.com")
    assert settings.audiences == ("api://one", "api://two")
    assert settings.redirect_to_login
    assert settings.to_config()["session"]["secure"] is True
    assert FERNET not in repr(settings) and "sk_1" not in repr(settings)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in (
        "GATEWRIGHT_URL",
        "APP_URL",
        "WORKOS_COOKIE_NAME",
        "GATEWRIGHT_ISSUERS",
        "GATEWRIGHT_AUDIENCES",
        "GATEWRIGHT_TRUSTED_ORIGINS",
    ):
        monkeypatch.delenv(name, raising=False)
    assert Gatewright.from_env().settings.client_id == "client_1"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML is read by Python 3.11 and later")
def test_issuers_may_be_written_in_toml(tmp_path: Path) -> None:
    file = tmp_path / "issuers.toml"
    file.write_text('[[issuers]]\nname = "okta"\nissuer = "https://dev.okta.com/oauth2/default"\naudiences = ["api://x"]\n')
    assert Gatewright.from_env(environ={**ENVIRONMENT, "GATEWRIGHT_ISSUERS": str(file)}).settings.issuers[0]["name"] == "okta"  # type: ignore[index]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"WORKOS_BASE_URL": ""}, "WORKOS_BASE_URL or GATEWRIGHT_URL is not set.*gatewright dev"),
    ({"WORKOS_CLIENT_ID": ""}, "WORKOS_CLIENT_ID is not set"),
    ({"WORKOS_API_KEY": ""}, "WORKOS_API_KEY is not set"),
    ({"WORKOS_BASE_URL": "localhost:4700"}, "WORKOS_BASE_URL.*localhost:4700.*http://localhost:4700"),
    ({"WORKOS_BASE_URL": "http://localhost:99999"}, "WORKOS_BASE_URL"),
    ({"WORKOS_BASE_URL": "https://id.example.com"}, "APP_URL.*is missing.*https://app.example.com"),
    ({"APP_URL": "app.example.com"}, "APP_URL"),
    ({"APP_URL": "https://example.com/app"}, "APP_URL.*path '/app'.*root_path"),
    ({"WORKOS_COOKIE_PASSWORD": "too short"}, "WORKOS_COOKIE_PASSWORD.*Fernet"),
    ({"WORKOS_COOKIE_NAME": "a b"}, "WORKOS_COOKIE_NAME"),
    ({"WORKOS_COOKIE_NAME": "__Host-session"}, "WORKOS_COOKIE_NAME.*secure"),
    ({"GATEWRIGHT_TRUSTED_ORIGINS": "https://a.example.com/path"}, "GATEWRIGHT_TRUSTED_ORIGINS"),
    ({"GATEWRIGHT_ISSUERS": "/nowhere.json"}, "GATEWRIGHT_ISSUERS.*nowhere.json.*cannot be read"),
]


@pytest.mark.parametrize(("change", "match"), MISTAKES)
def test_a_mistake_is_one_clear_line(change: dict[str, str], match: str) -> None:
    with pytest.raises(SettingsError, match=match) as caught:
        Gatewright.from_env(environ={**ENVIRONMENT, **change})
    text = str(caught.value)
    assert "\n" not in text and FERNET not in text and "sk_test_1" not in text


@pytest.mark.parametrize(
    ("text", "name", "match"),
    [
        ("{", "a.json", "not valid JSON"),
        ('{"issuer": 1}', "a.json", "no list of issuers"),
        ('[{"name": "x", "issuer": "https://x.example", "audience": ["y"]}]', "a.json", "audience"),
        ('[{"name": "x", "issuer": "https://x.example"}]', "a.json", "audiences"),
        ("= nonsense", "a.toml", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_of_issuers_names_it(text: str, name: str, match: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(SettingsError, match=match):
        Gatewright.from_env(environ={**ENVIRONMENT, "GATEWRIGHT_ISSUERS": str(file)})


@pytest.mark.parametrize("host", ["127.0.0.1.example.com", "127.example.com", "localhost.example.com", "10.0.0.1", "[::2]"])
def test_a_server_elsewhere_is_not_taken_for_one_on_this_machine(host: str, issuer: TestIssuer) -> None:
    # Here it is only asked for what production needs; `Secure` and our own origin hang on the same answer.
    with pytest.raises(SettingsError, match="APP_URL"):
        Gatewright(**issuer.settings(base_url=f"https://{host}"))


@pytest.mark.parametrize("host", ["127.0.0.1:4700", "127.1.2.3", "localhost:4700", "app.localhost", "[::1]:4700"])
def test_a_server_on_this_machine_needs_no_address_of_the_app(host: str, issuer: TestIssuer) -> None:
    assert Gatewright(**issuer.settings(base_url=f"http://{host}")).settings.is_local()


def test_construction_asks_nobody(issuer: TestIssuer) -> None:
    Gatewright(**issuer.settings(issuers=[Issuer("https://no-such-host.example/", audiences=["x"])]))
    assert not issuer.counts


def test_other_providers_are_typed(issuer: TestIssuer) -> None:
    keycloak = Issuer(
        "https://sso.example.com/realms/main",
        audiences=["expenses"],
        claims=Claims(roles="realm_access.roles", rename={"role:Admins": "admin"}, grants={"role:admin": ["expenses:write"]}),
        introspection=Introspection(client_id="api", client_secret="shh"),
        leeway=5,
    )
    gw = Gatewright(**issuer.settings(issuers=[keycloak]))
    config = gw.settings.to_config()["issuers"][0]
    assert config["name"] == "sso.example.com"
    assert config["mapping"]["roles"] == ["realm_access.roles"] and config["mapping"]["grants"] == {"role:admin": ["expenses:write"]}
    assert "shh" not in repr(keycloak)
    # Nor where it was read from a file, as plain data.
    plain = {"issuer": "https://idp.example", "audiences": ["x"], "introspection": {"client_id": "api", "client_secret": "shh"}}
    assert "shh" not in repr(Gatewright(**issuer.settings(issuers=[{"name": "idp", **plain}])).settings)
    with pytest.raises(SettingsError, match="leeway"):
        Gatewright(**issuer.settings(leeway=600))
