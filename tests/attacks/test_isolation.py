"""No key and no id of one tenant does anything to another: a matrix of every operation that `gatewright openapi` prints.

Three tenants have one of everything: two organizations in environment A, one in environment B. Each operation is called as its owner
would, which must succeed, and then with the wrong key, with ids of others, and with more in the body than it takes. Every row of the
database is compared before and after, and what was changed rightly is put back.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest

from attacks.operations import Operation, Request, Slot, read_operations
from attacks.stored_rows import Change, Postgres, Rows, Sqlite, StoredRows, differences
from attacks.tenants import FRESH, OF_ENVIRONMENT, SHARED, Tenant, build, choices, make_tenant, meaning
from hosted_pages import CALLBACK, Browser
from recording import open_client
from running_server import BINARY, Server, open_database, start_server

OPERATIONS = read_operations()
KEYED = [operation for operation in OPERATIONS if not operation.is_public]
PAGED = [operation for operation in KEYED if operation.is_paged]
REFUSALS = {400, 403, 404, 422}
ULID = "[0-9A-HJKMNP-TV-Z]{26}"
AUTHENTICATE = "POST /user_management/authenticate"

# Taken for the SDKs' sake: connections are not served yet, and of signals and attempts these operations make nothing.
NOT_YET = {"connection_id", "radar_auth_attempt_id", "signals_id"}
EMPTY = {"GET /user_management/users/{id}/identities"}
# Any user of the environment may become a member of any of its organizations, and may be named as the one who invites.
USERS_OF_THE_ENVIRONMENT = {
    ("POST /user_management/organization_memberships", "user_id"),
    ("POST /user_management/invitations", "inviter_user_id"),
}


def every(operations: list[Operation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations, ids=str)


class World:
    """The server, its rows, and the tenants: `first` and `second` share an environment, `foreign` has another."""

    def __init__(self, server: Server, stored: StoredRows, data: Path) -> None:
        self.server, self.stored = server, stored
        self.recorded, self.unrecorded = open_client(base_url=server.url), httpx.Client(base_url=server.url, trust_env=False, timeout=30)
        ids = environment_ids(data)
        home, away = server.facts["environments"][:2]

        for of in (home, away):
            challenge_the_suspicious(data, of["name"])

        def make(of: dict[str, str], neighbour: Tenant | None = None) -> Tenant:
            return make_tenant(server, of["api_key"], of["client_id"], ids[of["name"]], neighbour)

        self.first = make(home)
        self.second, self.foreign = make(home, self.first), make(away)
        # A name that is unique in an environment is shared with the other environment alone.
        self.second.shared -= {"organization_external_id", "user_external_id"}
        for tenant in (self.first, self.foreign):
            self.share_names(tenant)
        self.revoked_key = make_revoked_key(data, home["name"])
        self.rows = self.last = stored.read()
        self.is_read = True
        every = [row for table in self.rows.values() for row in table.values() if "environment_id" in row]
        self.ids = {id: set(re.findall(ULID, repr([r for r in every if r["environment_id"] == id]))) for id in ids.values()}

    def share_names(self, tenant: Tenant) -> None:
        """Gives the organization and the user of `tenant` twins whose external ids the other environment has, too."""
        headers = {"authorization": f"Bearer {tenant.api_key}"}
        body = {"name": f"Twin {tenant.marker}", "external_id": SHARED["organization_external_id"]}
        assert self.unrecorded.post("/organizations", json=body, headers=headers).status_code == 201
        body = {"email": f"twin-{tenant.marker}@example.test", "external_id": SHARED["user_external_id"]}
        assert self.unrecorded.post("/user_management/users", json=body, headers=headers).status_code == 201

    def send(self, request: Request, key: str | None, record: bool = False, **more: Any) -> httpx.Response:
        http = self.recorded if record else self.unrecorded
        self.is_read = False
        headers = {"authorization": f"Bearer {key}".strip()} if key is not None else {}
        headers |= more.pop("headers", {})
        method = more.pop("method", request.operation.method)
        answer = http.request(method, request.path, params=request.query, json=request.body, headers=headers, **more)
        said = f"{request.operation} {request.path} {request.query} {request.body}: {answer.status_code} {answer.text[:600]}"
        assert answer.status_code < 500, said
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.headers["content-type"].startswith("application/json"), said
            assert isinstance(answer.json().get("message", answer.json().get("error")), str), said
        return answer

    def read(self) -> Rows:
        """The rows after the last request."""
        if not self.is_read:
            self.last, self.is_read = self.stored.read(), True
        return self.last

    def changes(self, **which: Any) -> list[Change]:
        return differences(self.rows, self.read(), **which)

    def restore(self) -> None:
        self.stored.restore(self.rows, self.read())
        self.last = self.rows

    def assert_tells_nothing(self, answer: httpx.Response, request: Request, others: list[Tenant], environment: str = "") -> None:
        """Nothing of the others is in the answer but what the caller sent, and no id of any row of the environment."""
        text = answer.text + json.dumps(dict(answer.headers))
        for token in re.findall(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+", answer.text):
            text += json.dumps(jwt.decode(token, options={"verify_signature": False}))
        for sent in sorted(request.sent, key=len, reverse=True):
            text = text.replace(sent, "").replace(json.dumps(sent)[1:-1], "")
        found = {told for tenant in others for told in tenant.texts(not environment) if told in text}
        found |= set(re.findall(ULID, text)) & self.ids.get(environment, set())
        assert not found, f"{request.operation} tells of {found}: {answer.text[:800]}"

    def assert_untouched(self, why: str, **which: Any) -> None:
        changed = self.changes(**which)
        assert not changed, f"{why}: {changed[:3]}"


def environment_ids(data: Path) -> dict[str, str]:
    printed = subprocess.run([str(BINARY), "environments", "list", "--data", str(data)], capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: line.split()[1] for line in printed.splitlines()}


def challenge_the_suspicious(data: Path, environment: str) -> None:
    """So that there are sign-ins that wait for a challenge; thresholds that only they reach."""
    settings = {"brute_force_attack": "challenge", "account_failures": 3, "repeat_sign_up": "challenge", "mailbox_sign_ups": 1}
    settings |= {name: 1000 for name in ("network_failures", "network_accounts", "environment_failures", "network_sign_ups")}
    changes = [f"radar.{name}={value}" for name, value in settings.items()]
    command = [str(BINARY), "environments", "set", *changes, "--data", str(data), "--environment", environment]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)


def make_revoked_key(data: Path, environment: str) -> str:
    def run(*arguments: str) -> str:
        command = [str(BINARY), "environments", "api-keys", *arguments, "--data", str(data), "--environment", environment]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    made = dict(line.split(None, 1) for line in run("create", "short-lived").splitlines()[:2])
    run("revoke", made["id"])
    return made["api_key"].strip()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("isolation")
    with open_database() as database:
        server = start_server(data=data, database=database)
        engine = Postgres(database) if database else Sqlite(data / "gatewright.db")
        try:
            yield World(server, StoredRows(engine), data)
        finally:
            engine.close()
            assert server.stop() == 0


@pytest.fixture(autouse=True)
def put_back(world: World) -> Iterator[None]:
    """A failure leaves nothing behind that would make others fail."""
    yield
    world.restore()


def says_nothing(answer: httpx.Response) -> bool:
    """A success that found nobody: an empty list, or null for an API key that is not the caller's (contract 6.9)."""
    if answer.status_code != 200 or not answer.content:
        return False
    body = answer.json()
    if isinstance(body, list):
        return not body
    if body.get("object") == "list":
        return body["data"] == [] and not any(body.get("list_metadata", {}).values())
    return bool(body == {"api_key": None})


def assert_refused(answer: httpx.Response, request: Request, statuses: set[int]) -> None:
    """Refused with one of these; what was only asked by query or by value may also be answered with nothing."""
    may_be_empty = request.query or str(request.operation) == "POST /api_keys/validations"
    refused = answer.status_code in statuses or (statuses != {404} and may_be_empty and says_nothing(answer))
    assert refused, f"{request.operation} {request.path} {request.query} {request.body}: {answer.status_code} {answer.text[:600]}"


def foreign_requests(operation: Operation, caller: Tenant, other: Tenant, only: Any = None) -> Iterator[tuple[Request, Slot, Any]]:
    """The caller's own request with one value of the other's in it, for each place and value that may be tried."""
    for way in choices(operation):
        for slot in way:
            if only is None or only(way, slot):
                for value in other.foreign_values(operation, slot, caller):
                    yield build(operation, way, caller, {slot: value}), slot, value


# -- what the matrix stands on


def test_the_matrix_knows_what_every_place_means(world: World) -> None:
    """An operation added later fails here until its ids have a meaning: none is silently left out."""
    unknown = []
    for operation in OPERATIONS:
        for slot in operation.slots:
            names_something = slot.where == "path" or re.search("(_ids?|_slugs?|token|external_id)$", slot.last)
            means = meaning(operation, slot)
            known = means in world.first.refs or means in FRESH or means == "client_secret" or means in NOT_YET
            if names_something and not known and str(operation) != AUTHENTICATE:
                unknown.append(f"{operation}: {slot.where} {slot.name} means {means}")
    assert not unknown, unknown
    assert len(KEYED) >= 120 and len(PAGED) >= 25
    foreign = sum(1 for o in KEYED for _ in foreign_requests(o, world.foreign, world.first))
    mixed = sum(1 for o in KEYED for _ in foreign_requests(o, world.first, world.second, mixes(o, set(world.first.refs))))
    assert foreign > 300 and mixed > 150, (foreign, mixed)


@every(KEYED)
@pytest.mark.parametrize("twin", [False, True], ids=["own", "twin"])
def test_the_owner_succeeds_and_reaches_nobody_else(world: World, operation: Operation, twin: bool) -> None:
    """So every refusal below is for the key or the id alone. The twin has names that the others have, too."""
    for caller in (world.first, world.foreign):
        neighbours = [t for t in (world.first, world.second, world.foreign) if t is not caller]
        away = [t for t in neighbours if t.environment != caller.environment]
        for way in choices(operation):
            if twin and not {meaning(operation, slot) for slot in way} & caller.shared:
                continue
            request = build(operation, way, caller, twin=twin)
            answer = world.send(request, caller.api_key, record=caller is world.first)
            said = f"{operation} {request.path} {request.query} {request.body}: {answer.status_code} {answer.text[:600]}"
            changed = world.changes()
            world.restore()
            assert answer.status_code < 300 and (str(operation) in EMPTY or not says_nothing(answer)), said
            world.assert_tells_nothing(answer, request, away, away[0].environment)
            if {meaning(operation, slot) for slot in way} & set(caller.refs) - OF_ENVIRONMENT:
                world.assert_tells_nothing(answer, request, neighbours)
            reached = [
                (table, row)
                for table, old, new in changed
                for row in (old, new)
                if row and (row.get("environment_id") not in (caller.environment, None) or mentions(row, neighbours))
            ]
            assert not reached, f"{said} reached {reached[:3]}"


def mentions(row: dict[str, Any], others: list[Tenant]) -> bool:
    text = repr(row)
    return any(told in text for tenant in others for told in tenant.texts(of_organization=True))


# -- rows 18 and 49: another environment's key


@every(KEYED)
def test_row_49_another_environments_key_finds_nothing_and_changes_nothing(world: World, operation: Operation) -> None:
    caller, owner = world.foreign, world.first
    for way in choices(operation):
        request = build(operation, way, owner, {s: caller.api_key for s in way if s.name == "client_secret"})
        answer = world.send(request, caller.api_key)
        world.assert_tells_nothing(answer, request, [world.first, world.second], owner.environment)
        if any(owner.foreign_values(operation, slot, caller) for slot in way if slot.name != "client_id"):
            in_path = any(slot.where == "path" for slot in way)
            assert_refused(answer, request, {404} if in_path else REFUSALS)
        world.assert_untouched(f"{request.path} {answer.status_code}", environment=owner.environment)
        world.restore()


@every(KEYED)
def test_row_18_an_id_of_another_environment_is_refused_in_every_place(world: World, operation: Operation) -> None:
    caller, owner = world.foreign, world.first
    for request, slot, _ in foreign_requests(operation, caller, owner):
        answer = world.send(request, caller.api_key)
        assert_refused(answer, request, {404} if slot.where == "path" else REFUSALS)
        world.assert_tells_nothing(answer, request, [world.first, world.second], owner.environment)
        world.assert_untouched(f"{slot.name} in {request.path} {request.body}", but=proofs(operation))
        world.restore()


def proofs(operation: Operation) -> frozenset[str]:
    """A failed proof of identity is an event, and no change."""
    return frozenset({"events", "radar_attempts", "password_tries"}) if str(operation) == AUTHENTICATE else frozenset()


# What A has, put where B makes or renames something.
TAKEN = {
    "new_email": ["email", "invited_email"],
    "external_id": ["organization_external_id", "user_external_id", "resource_external_id"],
    "slug": ["flag_slug", "environment_role_slug", "unused_resource_type_slug", "resource_type_slug"],
    "organization_role_new_slug": ["organization_role_slug"],
    "name": ["organization_name", "group_name"],
    "domain": ["verified_domain"],
    "domains": ["verified_domains"],
    "uri": ["taken_uri"],
    "origin": ["taken_origin"],
}


@every([operation for operation in KEYED if operation.method != "GET" and operation.body])
def test_row_49_a_name_taken_in_another_environment_is_free_and_stays_whose_it_is(world: World, operation: Operation) -> None:
    """So nobody learns from a conflict what another environment has."""
    caller, owner = world.foreign, world.first
    for way in choices(operation):
        for slot in way:
            for means in TAKEN.get(meaning(operation, slot), []) if slot.where == "body" else []:
                taken = {**owner.data, **owner.refs}[means]
                request = build(operation, way, caller, {slot: taken})
                answer = world.send(request, caller.api_key)
                assert answer.status_code < 300, f"{operation} {slot.name}={taken}: {answer.status_code} {answer.text[:300]}"
                world.assert_tells_nothing(answer, request, [world.first, world.second], owner.environment)
                world.assert_untouched(f"{operation} {taken}", environment=owner.environment)
                world.restore()


@every([operation for operation in KEYED if operation.method == "POST" and "{" not in operation.path])
def test_row_18_an_idempotency_key_replays_nothing_to_another_key(world: World, operation: Operation) -> None:
    way = [slot for slot in choices(operation)[0] if slot.name != "inviter_user_id"]
    request = build(operation, way, world.first)
    header = {"headers": {"idempotency-key": f"{operation.path}-{world.first.marker}"}}
    first = world.send(request, world.first.api_key, **header)
    assert first.status_code < 300
    stored = world.read()
    minted = set(re.findall(ULID, first.text)) | set(re.findall(r"[\w-]{40,}", first.text))
    for key in (None, world.revoked_key, world.foreign.api_key):
        other = build(operation, way, world.first, {slot: key or "" for slot in way if slot.name == "client_secret"})
        answer = world.send(other, key, **header)
        told = {text for text in minted if text in answer.text and text not in json.dumps(other.body)}
        assert not told, f"{operation}: {answer.text[:400]}"
    assert not differences(stored, world.read(), environment=world.first.environment, but=proofs(operation))


PATHS = sorted({operation.path for operation in OPERATIONS})


@pytest.mark.parametrize("path", PATHS)
def test_row_49_a_verb_that_the_document_does_not_name_does_nothing(world: World, path: str) -> None:
    named = {operation.method: operation for operation in OPERATIONS if operation.path == path}
    get = named["GET"] if "GET" in named and not named["GET"].is_public else None
    some = get or next(iter(named.values()))
    request = build(some, choices(some)[0] if get else [slot for slot in some.slots if slot.where == "path"], world.first)
    for tenant in (world.first, world.foreign):
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - named.keys():
            answer = world.send(request, tenant.api_key, method=method)
            assert answer.status_code in {404, 405}, f"{method} {path}: {answer.status_code}"
        if get:
            short, full = (world.send(request, tenant.api_key, method=method) for method in ("HEAD", "GET"))
            assert short.status_code == full.status_code and not short.content, f"HEAD {path}: {short.status_code}"
    world.assert_untouched(path)


# -- rows 18 and 49: another organization of the same environment


def mixes(operation: Operation, refs: set[str]) -> Any:
    """Where an id of another organization stands beside one of the caller's own."""

    def tried(way: list[Slot], slot: Slot) -> bool:
        of_organization = [s for s in way if meaning(operation, s) in refs - OF_ENVIRONMENT]
        return slot in of_organization and len(of_organization) > 1 and (str(operation), slot.name) not in USERS_OF_THE_ENVIRONMENT

    return tried


@every(KEYED)
def test_row_49_an_id_of_another_organization_is_refused_in_every_place(world: World, operation: Operation) -> None:
    caller, other = world.first, world.second
    for request, slot, _ in foreign_requests(operation, caller, other, mixes(operation, set(caller.refs))):
        answer = world.send(request, caller.api_key)
        assert_refused(answer, request, REFUSALS)
        world.assert_tells_nothing(answer, request, [other])
        world.assert_untouched(f"{slot.name} in {request.path} {request.body}", but=proofs(operation))
        world.restore()


@every(
    [
        operation
        for operation in KEYED
        if re.search("memberships/{id}(/deactivate)?$", operation.path) and operation.method in {"PUT", "DELETE"}
    ]
)
def test_row_49_what_ends_in_one_organization_goes_on_in_another(world: World, operation: Operation) -> None:
    """The user's session in the second organization, here a copy of the one in the first, is not the first's to end."""
    caller = world.first
    session = dict(world.rows["sessions"][(caller.refs["session_id"],)])
    session |= {"id": session["id"][:-4] + "C0PY", "organization_id": world.second.refs["organization_id"]}
    world.stored.insert("sessions", session)
    answer = world.send(build(operation, choices(operation)[0], caller), caller.api_key)
    after = world.read()["sessions"]
    assert answer.status_code == 200 and after[(session["id"],)]["ended_at"] is None
    ended = after[(caller.refs["session_id"],)]["ended_at"] is not None
    assert ended == (operation.method == "DELETE" or operation.path.endswith("deactivate"))


# -- row 50: the wrong kind of key


@every(KEYED)
def test_row_50_only_a_live_key_of_an_environment_opens_anything(world: World, operation: Operation) -> None:
    owner = world.first
    way = choices(operation)[0]
    wrong = {
        "no key": None,
        "an empty key": "",
        "a client id": owner.client_id,
        "an organization's API key": owner.refs["api_key_value"],
        "a user's API key": owner.data["user_api_key_value"],
        "a user's access token": owner.access_token,
        "a revoked key": world.revoked_key,
        "a key with another end": owner.api_key[:-1] + ("a" if owner.api_key[-1] != "a" else "b"),
        "the key's upper case": owner.api_key.upper(),
        "the key twice": f"{owner.api_key}, {owner.api_key}",
    }
    for kind, key in wrong.items():
        secret = {slot: key or "" for slot in way if slot.name == "client_secret"}
        request = build(operation, way, owner, secret)
        answer = world.send(request, key)
        refused = answer.status_code in {401, 403} or (secret and answer.status_code == 400)
        assert refused, f"{operation} with {kind}: {answer.status_code} {answer.text[:300]}"
        request.sent = [key] if key else []  # not even the ids that were sent come back
        world.assert_tells_nothing(answer, request, [world.first, world.second, world.foreign], owner.environment)
    world.assert_untouched(str(operation), but=proofs(operation))


@every(KEYED)
def test_row_50_a_key_outside_of_its_header_opens_nothing(world: World, operation: Operation) -> None:
    way = [slot for slot in choices(operation)[0] if slot.name != "client_secret"]
    request = build(operation, way, world.first)
    for name in ("api_key", "key", "access_token", "authorization"):
        request.query[name] = world.first.api_key
    key, refused = world.first.api_key, {400, 401} if str(operation) == AUTHENTICATE else {401}
    for header in ({"x-api-key": key}, {"cookie": f"api_key={key}"}, {"authorization": f"Basic {key}"}):
        answer = world.send(request, None, headers=header)
        assert answer.status_code in refused, f"{operation} {header}: {answer.status_code}"
    world.assert_untouched(str(operation), but=proofs(operation))


# -- row 51: more in a body than the operation takes

INJECTED: dict[str, Any] = {
    "id": "injected",
    "object": "superuser",
    "type": "EnvironmentRole",
    "status": "inactive",
    "state": "verified",
    "role": {"slug": "admin"},
    "role_slug": "admin",
    "roles": [{"slug": "admin"}],
    "role_slugs": ["admin"],
    "permissions": ["injected:permission"],
    "priority": 0,
    "system": True,
    "is_default": True,
    "email_verified": True,
    "verified": True,
    "is_admin": True,
    "enabled": False,
    "last_used_at": "2001-01-01T00:00:00.000Z",
    "created_at": "2001-01-01T00:00:00.000Z",
    "updated_at": "2001-01-01T00:00:00.000Z",
    "__proto__": {"role_slug": "admin", "email_verified": True},
    "constructor": {"prototype": {"role_slug": "admin"}},
    "prototype": {"role_slug": "admin"},
}
INJECTED_KINDS: dict[str, Any] = {"boolean": True, "integer": 7, "array": ["injected"], "object": {"slug": "injected"}}
TAKING = [operation for operation in KEYED if operation.method in {"POST", "PUT", "PATCH"}]


def inject(body: Any, fields: set[str], more: dict[str, Any]) -> Any:
    """The body with everything added, on every level, that the operation does not take anyway."""
    if isinstance(body, list):
        return [inject(one, fields, more) for one in body]
    if not isinstance(body, dict):
        return body
    kept = {name: value if name == "metadata" else inject(value, fields, more) for name, value in body.items()}
    return {**{name: value for name, value in more.items() if name not in fields}, **kept}


def without_chance(value: Any, known: set[str]) -> Any:
    """What two calls alike have alike: no times and secrets of their own, and no ids but those that were there before."""

    def blur(found: re.Match[str]) -> str:
        if known & set(re.findall(ULID, found[0])):
            return re.sub(ULID, lambda one: one[0] if one[0] in known else "chance", found[0])
        return "chance"

    if isinstance(value, dict):
        return {name: without_chance(v, known) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_chance(v, known) for v in value]
    if isinstance(value, bytes):
        return "chance"
    if isinstance(value, int) and value > 1_600_000_000_000:
        return "lately"
    if isinstance(value, str):
        value = re.sub(r"20[23]\d-\d\d-\d\dT[\d:.]+Z", "lately", value)
        value = re.sub(r"\$argon2\S+|eyJ[\w.-]+|sk_[^\"\s]+|\b\d{6}\b|-verification-\w+", "chance", value)
        # A QR code, and codes to print.
        value = re.sub(r"data:image/png;base64,[\w+/=]+|\b[2-9a-z]{4}(-[2-9a-z]{4}){3}\b", "chance", value)
        return re.sub(r"[\w-]{25,}", blur, value)
    return value


@every(TAKING)
def test_row_51_fields_that_an_operation_does_not_take_change_nothing(world: World, operation: Operation) -> None:
    caller = world.first
    more = {
        **{name: INJECTED_KINDS.get(str(field.get("type")), "injected") for name, field in operation.answered.items()},
        **INJECTED,
        "environment_id": world.foreign.environment,
        "organization_id": world.second.refs["organization_id"],
        "user_id": world.second.refs["user_id"],
        "owner_id": world.second.refs["user_id"],
    }
    known = set(re.findall(ULID, repr(world.rows)))
    for way in choices(operation):
        plain, injected = build(operation, way, caller), build(operation, way, caller)
        injected.body = inject(injected.body or {}, {slot.last for slot in operation.slots} | {s.name for s in operation.slots}, more)
        results = []
        for request in (plain, injected):
            answer = world.send(request, caller.api_key)
            changed = world.changes(but=frozenset({"mails"}))
            world.restore()
            results.append((answer, sorted(repr(without_chance(change, known)) for change in changed)))
        (asked, wanted), (answer, changed) = results
        if answer.status_code in REFUSALS:
            assert not changed, f"{operation}: refused, and yet {changed[:3]}"
            continue
        assert answer.status_code == asked.status_code, f"{operation}: {answer.status_code} {answer.text[:300]}"
        assert without_chance(answer.text, known) == without_chance(asked.text, known), f"{operation} takes more than it says"
        assert changed == wanted, f"{operation} keeps what it was not asked for: {set(changed) ^ set(wanted)}"


def test_row_51_prototype_keys_in_metadata_are_data(world: World) -> None:
    caller, keys = world.first, {"__proto__": "a", "constructor": "b", "prototype": "c"}
    # What an app writes into its audit log is looked at by its own schema, and is not shown again.
    taking = [(o, slot) for o in TAKING for slot in o.slots if slot.last == "metadata" and not o.path.startswith("/audit_logs")]
    assert len(taking) == 4
    for operation, slot in taking:
        way = choices(operation)[0]
        answer = world.send(build(operation, way, caller, {slot: keys}), caller.api_key)
        kept = answer.json()
        world.restore()
        if answer.status_code == 400:
            assert kept["code"] == "invalid_metadata"
        else:
            assert answer.status_code < 300 and keys.items() <= kept["metadata"].items(), f"{operation}: {answer.text}"
        nested = world.send(build(operation, way, caller, {slot: {"__proto__": {"email_verified": True}}}), caller.api_key)
        assert nested.status_code in {400, 422}, f"{operation}: {nested.text}"
        world.assert_untouched(str(operation))


# -- row 52: cursors and limits

REFUSED_PAGES = [
    *({"limit": limit} for limit in ("-1", "0", "101", "1000000000", "9223372036854775808", "1e2", "1;DROP TABLE users", "ten", "0x10")),
    *({"order": order} for order in ("id", "desc; DROP TABLE users", "desc,environment_id", "DESC NULLS LAST", "1")),
    {"limit": "-1", "after": "x"},
]
FORGED = ["' OR 1=1 --", "../../etc/passwd", "%", "\u0000", "0", "ZZZZ", "x" * 5000, "user_01HXYZHXYZHXYZHXYZHXYZHXYZ", "\U0010ffff"]


def everything(tenant: Tenant, page: Any) -> list[Any]:
    """The whole list, which may be longer than a page: what happened in an environment is."""
    rows: list[Any] = []
    paging = {"limit": "100"}
    while True:
        shown = page(tenant, **paging).json()
        rows += shown["data"]
        if not (after := shown["list_metadata"]["after"]):
            return rows
        paging["after"] = after


def cursors_of(tenant: Tenant, page: Any) -> list[str]:
    """The ids of a list's rows; of rows that do not show theirs, what the list gives as cursors from one end to the other and back."""
    rows = everything(tenant, page)
    if all("id" in row for row in rows):
        return [row["id"] for row in rows]
    found: list[str] = []
    for order in ("desc", "asc"):
        after: dict[str, str] = {}
        for _ in rows:
            cursor = page(tenant, limit="1", order=order, **after).json()["list_metadata"]["after"]
            if cursor is None:
                break
            found, after = [*found, *({cursor} - set(found))], {"after": cursor}
    return found


def identity(row: dict[str, Any]) -> str:
    """What stays the same of a row between two looks at it: a delivery goes on meanwhile."""
    return str(row.get("id") or json.dumps(row, sort_keys=True))


@every(PAGED)
def test_row_52_no_cursor_shows_a_row_of_another_list(world: World, operation: Operation) -> None:
    caller = world.first
    for number, way in enumerate(choices(operation)):

        def page(tenant: Tenant, way: list[Slot] = way, **paging: str) -> httpx.Response:
            request = build(operation, way, tenant)
            request.query |= paging
            return world.send(request, tenant.api_key)

        own = everything(caller, page)
        assert own
        own_ids = cursors_of(caller, page)
        mine, ids = {identity(row) for row in own}, {*own_ids, None}
        others = [cursor for tenant in (world.second, world.foreign) for cursor in cursors_of(tenant, page)]
        cursors = [*others[:1], *others[-1:], world.second.refs["organization_id"], own_ids[0], own_ids[-1]]
        for cursor in [*cursors, *(FORGED if number == 0 else [])]:
            for name in ("after", "before"):
                for order in ("asc", "desc", "normal") if cursor in cursors else ("desc",):
                    answer = page(caller, **{name: cursor, "order": order})
                    said = f"{operation} {name}={cursor[:40]}&order={order}: {answer.status_code} {answer.text[:300]}"
                    if answer.status_code == 200:
                        shown = answer.json()
                        assert {identity(row) for row in shown["data"]} <= mine, said
                        assert set(shown["list_metadata"].values()) <= ids, said
                    else:
                        assert answer.status_code in {400, 404, 422}, said
    world.assert_untouched(str(operation))


@every(PAGED)
def test_row_52_limits_and_orders_that_are_none_are_refused(world: World, operation: Operation) -> None:
    caller, way = world.first, choices(operation)[0]
    for paging in [*REFUSED_PAGES, {"before": "user_a", "after": "user_b"}]:
        request = build(operation, way, caller)
        request.query |= paging
        answer = world.send(request, caller.api_key)
        assert answer.status_code == 422 and answer.json()["errors"], f"{operation} {paging}: {answer.status_code} {answer.text[:300]}"
    for repeated in ("limit=1&limit=2", "order=asc&order=desc", "after=a&after=b"):
        request = build(operation, way, caller)
        url = f"{request.path}?{httpx.QueryParams(request.query)}&{repeated}"
        answer = world.unrecorded.get(url, headers={"authorization": f"Bearer {caller.api_key}"})
        assert answer.status_code == 422, f"{operation} {repeated}: {answer.status_code}"


# -- operations without a key: a client id is public, and opens what the environment shows to everybody


def test_row_18_a_client_of_another_environment_signs_nobody_in_here(world: World) -> None:
    public = {str(operation): operation for operation in OPERATIONS if operation.is_public}
    assert public.keys() == {
        "GET /.well-known/ssf-configuration/user_management/{clientId}",
        "GET /sso/jwks/{clientId}",
        "GET /user_management/authorize",
        "POST /user_management/authorize/device",
        "GET /user_management/sessions/logout",
    }
    caller, owner = world.foreign, world.first
    keys = [world.unrecorded.get(f"/sso/jwks/{tenant.client_id}").json()["keys"] for tenant in (caller, owner)]
    assert not {key["kid"] for key in keys[0]} & {key["kid"] for key in keys[1]}
    asked = {"response_type": "code", "client_id": caller.client_id, "redirect_uri": CALLBACK, "provider": "authkit"}
    wrong = [
        {"organization_id": owner.refs["organization_id"]},
        {"invitation_token": owner.refs["invitation_token"]},
        {"redirect_uri": owner.data["taken_uri"]},
        {"login_hint": owner.refs["email"]},
    ]
    for more in wrong:
        answer = world.unrecorded.get("/user_management/authorize", params={**asked, **more})
        assert answer.status_code in {302, 400}, answer.text
        assert not answer.headers.get("location", "").startswith(owner.data["taken_uri"])
        told = (answer.text + str(answer.headers)).replace(owner.refs["organization_id"], "").replace(owner.data["taken_uri"], "")
        for sent in more.values():
            told = told.replace(sent, "").replace(quote(sent, safe=""), "")
        assert not {text for text in owner.texts() if text in told}, told
        page = Browser().open(str(httpx.URL(f"{world.server.url}/user_management/authorize", params={**asked, **more})))
        assert owner.refs["organization_name"] not in page.text
        world.is_read = False
        world.assert_untouched(str(more), environment=owner.environment)
        world.restore()
