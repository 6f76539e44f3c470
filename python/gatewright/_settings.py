"""What an app is configured with, read from keyword arguments or the environment, checked, without any network."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

CookieFormat = Literal["workos-python", "workos-node"]
SameSite = Literal["lax", "strict", "none"]
WhenStale = Literal["allow", "check"]


class SettingsError(ValueError):
    """A mistake in the configuration: one line that says what is wrong, why it matters and what to do."""


@dataclass(frozen=True)
class Claims:
    """Where another provider's tokens say what, and what it means here.

    Each of the first eight is the name of a claim, a dotted path (``realm_access.roles``) or several of them: of single values
    the first that is there counts, of lists all.
    """

    subject: str | Sequence[str] = "sub"
    session: str | Sequence[str] = "sid"
    client: str | Sequence[str] = ("client_id", "azp", "cid")
    organization: str | Sequence[str] = "org_id"
    roles: str | Sequence[str] = ("roles", "role")
    permissions: str | Sequence[str] = "permissions"
    scopes: str | Sequence[str] = ("scope", "scp")
    email: str | Sequence[str] = "email"
    rename: Mapping[str, str] = field(default_factory=dict)
    """``{"role:Admins": "admin"}``: what they call so is called so here. The same for ``permission:`` and ``scope:``."""
    grants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """``{"role:admin": ["expenses:write"]}``: the permissions that a role, scope or permission brings."""

    def to_config(self) -> dict[str, Any]:
        names = ("subject", "session", "client", "organization", "roles", "permissions", "scopes", "email")
        wanted: dict[str, Any] = {}
        for name in names:
            value = getattr(self, name)
            wanted[name] = [value] if isinstance(value, str) else list(value)
        wanted["rename"] = dict(self.rename)
        wanted["grants"] = {name: [brings] if isinstance(brings, str) else list(brings) for name, brings in self.grants.items()}
        return wanted


@dataclass(frozen=True)
class Introspection:
    """How to ask a provider about its opaque tokens (RFC 7662). Without an endpoint, the one of its metadata."""

    client_id: str
    client_secret: str = field(repr=False)
    endpoint: str | None = None


@dataclass(frozen=True)
class Issuer:
    """Another OpenID provider whose access tokens are accepted beside Gatewright's own.

    ``Issuer("https://dev-1.okta.com/oauth2/default", audiences=["api://expenses"])``
    """

    issuer: str
    """``iss`` of its tokens, exactly."""
    audiences: Sequence[str]
    """One of these must be in the token's audience: what this API is called at the provider."""
    name: str | None = None
    """What the log calls it; its host when not given."""
    jwks_uri: str | None = None
    """Its key set; found by discovery when not given."""
    introspection: Introspection | None = None
    audience_claim: str = "aud"
    """Cognito's access tokens have the audience in ``client_id``."""
    algorithms: Sequence[str] = ("RS256",)
    types: Sequence[str] = ("JWT", "at+jwt")
    """Header ``typ`` of its access tokens; ``""`` stands for none."""
    claims: Claims = field(default_factory=Claims)
    leeway: int | None = None
    """Seconds that its clock may be off, at most 60."""

    def to_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": self.name or urlsplit(self.issuer).hostname or self.issuer,
            "issuer": self.issuer,
            "audiences": listed(self.audiences),
            "audience_claim": self.audience_claim,
            "algorithms": listed(self.algorithms),
            "types": listed(self.types),
            "mapping": self.claims.to_config(),
        }
        if self.jwks_uri is not None:
            config["jwks_uri"] = self.jwks_uri
        if self.leeway is not None:
            config["leeway"] = self.leeway
        if self.introspection is not None:
            asked = self.introspection
            config["introspection"] = {"client_id": asked.client_id, "client_secret": asked.client_secret, "endpoint": asked.endpoint}
        return config


@dataclass(frozen=True)
class Settings:
    """Everything a `Gatewright` is configured with; see its constructor for what each means."""

    base_url: str
    client_id: str
    api_key: str | None = field(default=None, repr=False)
    cookie_password: str | None = field(default=None, repr=False)
    cookie_name: str = "wos_session"
    cookie_format: CookieFormat = "workos-python"
    cookie_domain: str | None = None
    cookie_max_age: int | None = None
    cookie_same_site: SameSite = "lax"
    app_url: str | None = None
    trusted_origins: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    # Plain data may hold the secret of an introspection.
    issuers: tuple[Issuer | Mapping[str, Any], ...] = field(default=(), repr=False)
    sessions_issuer: str | None = None
    resource_metadata: str | None = None
    leeway: int = 10
    cache_entries: int = 10_000
    redirect_to_login: bool = False
    feed_stale_after: int = 10
    when_stale: WhenStale = "allow"
    report_denied_requests: bool = True

    def __post_init__(self) -> None:
        check_url("base_url", self.base_url, "the address of the Gatewright server, such as http://localhost:4700")
        if not self.client_id:
            refuse("client_id", "is empty", "give the client id of this app's environment")
        if self.app_url is not None:
            check_url("app_url", self.app_url, "the origin people see in their address bar, such as https://app.example.com")
            if urlsplit(self.app_url).path.strip("/"):
                refuse(
                    "app_url",
                    f"has the path {urlsplit(self.app_url).path!r}",
                    "give the origin alone; a path prefix is the app's root_path",
                )
        if self.cookie_password and not self.app_url and not self.is_local():
            refuse(
                "app_url",
                f"is missing although {self.base_url} is not on this machine, so where browsers return to after sign-in is unknown",
                "set APP_URL (app_url=) to the origin people see, such as https://app.example.com",
            )

    def is_local(self) -> bool:
        """Whether the server runs on this machine, as in development."""
        return is_loopback(self.base_url)

    def reports(self) -> bool:
        """Whether the server is told of refused requests."""
        return self.report_denied_requests and bool(self.api_key)

    def to_config(self) -> dict[str, Any]:
        """The configuration of the compiled guard."""
        config: dict[str, Any] = {
            "base_url": self.base_url,
            "client_id": self.client_id,
            "api_key": self.api_key or None,
            "app_url": self.app_url,
            "trusted_origins": list(self.trusted_origins),
            "audiences": list(self.audiences),
            "issuers": [issuer.to_config() if isinstance(issuer, Issuer) else dict(issuer) for issuer in self.issuers],
            "sessions_issuer": self.sessions_issuer,
            "resource_metadata": self.resource_metadata,
            "leeway": self.leeway,
            "cache_entries": self.cache_entries,
            "feed_stale_after": self.feed_stale_after,
            "when_stale": self.when_stale,
            "report_denied_requests": self.report_denied_requests,
        }
        if self.cookie_password:
            config["session"] = {
                "cookie_name": self.cookie_name,
                "password": self.cookie_password,
                "format": self.cookie_format,
                # From the address people use, never from a flag that is forgotten on the way to production.
                "secure": (self.app_url or "").startswith("https://"),
                "domain": self.cookie_domain,
                "max_age": self.cookie_max_age,
                "same_site": self.cookie_same_site,
            }
        return config


def read_environment(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The settings that the environment holds, by the names of the constructor. SettingsError when what is needed is missing."""
    environ = os.environ if environ is None else environ

    def find(*names: str) -> str | None:
        return next((value for name in names if (value := environ.get(name, "").strip())), None)

    def load(names: tuple[str, ...], what: str) -> str:
        value = find(*names)
        if value is None:
            raise SettingsError(
                f"{' or '.join(names)} is not set: {what}; start the app with `gatewright dev -- COMMAND`, which sets it, or set it yourself"
            )
        return value

    settings: dict[str, Any] = {
        "base_url": load(("WORKOS_BASE_URL", "GATEWRIGHT_URL"), "the app does not know where Gatewright is"),
        "client_id": load(("WORKOS_CLIENT_ID",), "the app does not know its environment at Gatewright"),
        "api_key": find("WORKOS_API_KEY"),
        "cookie_password": find("WORKOS_COOKIE_PASSWORD"),
        "app_url": find("APP_URL"),
        "trusted_origins": split(find("GATEWRIGHT_TRUSTED_ORIGINS")),
        "audiences": split(find("GATEWRIGHT_AUDIENCES")),
    }
    if name := find("WORKOS_COOKIE_NAME"):
        settings["cookie_name"] = name
    if settings["cookie_password"] and not settings["api_key"]:
        load(("WORKOS_API_KEY",), "sign-in and the renewal of sessions need it")
    if path := find("GATEWRIGHT_ISSUERS"):
        settings["issuers"] = read_issuers(Path(path))
    return settings


def read_issuers(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The issuers in a JSON or TOML file: a list, or a table with the list ``issuers``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        refuse("GATEWRIGHT_ISSUERS", f"names {path}, which cannot be read ({error.strerror})", "give the path of a JSON or TOML file")
    try:
        found = parse_toml(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        refuse(
            "GATEWRIGHT_ISSUERS", f"names {path}, which is not valid {path.suffix.strip('.').upper() or 'JSON'} ({error})", "mend the file"
        )
    issuers = found.get("issuers") if isinstance(found, dict) else found
    if not isinstance(issuers, list) or not all(isinstance(issuer, dict) for issuer in issuers):
        refuse(
            "GATEWRIGHT_ISSUERS",
            f"names {path}, which holds no list of issuers",
            'write {"issuers": [{"name": .., "issuer": .., "audiences": [..]}]}',
        )
    return tuple(issuers)


def parse_toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads(text)
    raise ValueError("TOML needs Python 3.11 or newer; use JSON")


# How the keys of the compiled guard's configuration are called by people.
_NAMES = {
    "base_url": "WORKOS_BASE_URL (base_url)",
    "client_id": "WORKOS_CLIENT_ID (client_id)",
    "api_key": "WORKOS_API_KEY (api_key)",
    "session.password": "WORKOS_COOKIE_PASSWORD (cookie_password)",
    "session.cookie_name": "WORKOS_COOKIE_NAME (cookie_name)",
    "session.domain": "cookie_domain",
    "session.max_age": "cookie_max_age",
    "session.same_site": "cookie_same_site",
    "session.format": "cookie_format",
    "app_url": "APP_URL (app_url)",
}


def explain(error: ValueError) -> SettingsError:
    """The compiled guard's complaint about a configuration, in the names people wrote."""
    key, separator, problem = str(error).partition(": ")
    if not separator:
        return SettingsError(str(error))
    if key.startswith("trusted_origins"):
        key = key.replace("trusted_origins", "GATEWRIGHT_TRUSTED_ORIGINS (trusted_origins)", 1)
    return SettingsError(f"{_NAMES.get(key, key)}: {problem}")


def check_url(name: str, url: str, want: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        refuse(name, f"is {url!r}, which is no http(s) address", f"give {want}")


def refuse(name: str, problem: str, remedy: str) -> NoReturn:
    raise SettingsError(f"{_NAMES.get(name, name)} {problem}: {remedy}")


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # Any other name, `127.example.com` too, is whose DNS says so.
        return False


def split(text: str | None) -> tuple[str, ...]:
    return tuple(part for part in (text or "").replace(",", " ").split() if part)


def listed(values: str | Sequence[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)
