"""Every call of the Python SDK about audit logs: actions and their schemas, events, exports as files, retention, configuration."""

from __future__ import annotations

import csv
import io
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
import workos
from workos.audit_logs import RetentionPeriod, RetentionPeriodInDays
from workos.audit_logs.models import (
    AuditLogEvent,
    AuditLogEventActor,
    AuditLogEventContext,
    AuditLogEventTarget,
    AuditLogSchemaActorInput,
    AuditLogSchemaTargetInput,
)

from accounts import open_sdk
from organizations import unique
from running_server import Server
from sdk.offered import AUDIT_LOGS, Noted, list_offered, list_operations

COLUMNS = "id,action,occurred_at,actor_id,actor_type,actor_name,actor_metadata,targets,context_location,context_user_agent,metadata,version"


@pytest.fixture(scope="module")
def sdk(server: Server) -> Any:
    return Noted(open_sdk(server))


@pytest.fixture
def organization(sdk: Any) -> str:
    return str(sdk.organizations.create_organization(name=unique("Acme")).id)


@pytest.fixture
def action(sdk: Any) -> str:
    """An action whose actors say their role and whose invoices may say their cost."""
    name = f"invoice.{unique('viewed')}"
    sdk.audit_logs.create_schema(
        name,
        actor=AuditLogSchemaActorInput(metadata={"type": "object", "properties": {"role": {"type": "string"}}, "required": ["role"]}),
        targets=[
            AuditLogSchemaTargetInput(type="invoice", metadata={"type": "object", "properties": {"cost": {"type": "number"}}}),
            AuditLogSchemaTargetInput(type="team"),
        ],
        metadata={"type": "object", "properties": {"note": {"type": "string"}}, "additionalProperties": False},
    )
    return name


def event(action: str, name: str = "Jon Smith", **more: Any) -> AuditLogEvent:
    given: dict[str, Any] = {
        "action": action,
        "occurred_at": datetime.now(timezone.utc),
        "actor": AuditLogEventActor(id=f"user_{name}", type="user", name=name, metadata={"role": "admin"}),
        "targets": [AuditLogEventTarget(id="invoice_1", type="invoice", metadata={"cost": 12.5})],
        "context": AuditLogEventContext(location="192.0.2.1", user_agent="Chrome/104"),
    }
    return AuditLogEvent(**{**given, **more})


def refusal(kind: type[workos.WorkOSError], call: Any, *args: Any, **kwargs: Any) -> Any:
    with pytest.raises(workos.WorkOSError) as raised:
        call(*args, **kwargs)
    assert type(raised.value) is kind, f"{raised.value!r} is no {kind.__name__}"
    return raised.value


def paths(error: Any) -> list[str]:
    """Where the event does not fit, as the answer says."""
    assert error.code == "invalid_audit_log_event", error
    return [problem["instancePath"] for problem in error.response_json["errors"]]


def rows_of(sdk: Any, organization: str, **filters: Any) -> list[dict[str, str]]:
    """The lines of a finished export."""
    now = datetime.now(timezone.utc)
    made = sdk.audit_logs.create_export(
        organization_id=organization,
        range_start=(now - timedelta(days=80)).isoformat(),
        range_end=(now + timedelta(hours=1)).isoformat(),
        **filters,
    )
    assert made.id.startswith("audit_log_export_") and made.state.value == "pending" and made.url is None
    deadline = time.monotonic() + 30
    while (found := sdk.audit_logs.get_export(made.id)).state.value == "pending" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found.state.value == "ready" and found.url, found
    file = httpx.get(found.url, trust_env=False)
    assert file.status_code == 200 and file.headers["content-type"] == "text/csv; charset=utf-8", file.text
    assert file.text.splitlines()[0].replace('"', "") == COLUMNS
    return list(csv.DictReader(io.StringIO(file.text, newline="")))


def test_actions_and_versions_of_their_schemas(sdk: Any, action: str) -> None:
    calls = sdk.audit_logs
    second = calls.create_schema(action, targets=[AuditLogSchemaTargetInput(type="team")])
    assert (second.object, second.version, [target.type for target in second.targets]) == ("audit_log_schema", 2, ["team"])
    assert calls.create_schema(action, targets=[AuditLogSchemaTargetInput(type="team")]).version == 2, "equal schemas are one version"
    assert [schema.version for schema in calls.list_action_schemas(action, limit=1).auto_paging_iter()] == [2, 1]
    listed = {row.name: row.schema for row in calls.list_actions(limit=1).auto_paging_iter()}
    assert listed[action].version == 2
    first = next(iter(calls.list_action_schemas(action, order="asc").data))
    assert first.actor.metadata["required"] == ["role"] and first.metadata["additionalProperties"] is False
    refusal(workos.NotFoundError, calls.list_action_schemas, unique("none"))
    remote = [AuditLogSchemaTargetInput(type="team", metadata={"$ref": "https://example.com/schema.json"})]
    refusal(workos.UnprocessableEntityError, calls.create_schema, action, targets=remote)
    refusal(workos.UnprocessableEntityError, calls.create_schema, action, targets=[])


def test_events_are_written_once_and_only_if_they_fit(sdk: Any, organization: str, action: str) -> None:
    calls = sdk.audit_logs
    told, key = event(action, metadata={"note": "Zoë"}), unique("key")
    for _ in range(3):
        assert calls.create_event(organization_id=organization, event=told, idempotency_key=key).success
    assert calls.create_event(organization_id=organization, event=event(action, "Ann", version=1)).success

    def refused(**more: Any) -> list[str]:
        return paths(refusal(workos.BadRequestError, calls.create_event, organization_id=organization, event=event(action, **more)))

    assert refused(version=2) == ["/version"]
    assert refused(actor=AuditLogEventActor(id="u", type="user")) == ["/actor/metadata"]
    assert refused(targets=[AuditLogEventTarget(id="u", type="user")]) == ["/targets/0/type"]
    assert refused(targets=[AuditLogEventTarget(id="i", type="invoice", metadata={"cost": "much"})]) == ["/targets/0/metadata/cost"]
    assert refused(metadata={"other": 1}) == ["/metadata"]
    assert refused(metadata={"note": "x" * 501}) == ["/metadata/note"]
    unknown = refusal(workos.BadRequestError, calls.create_event, organization_id=organization, event=event(unique("none")))
    assert paths(unknown) == ["/action"]
    nobody = "org_01HXYZHXYZHXYZHXYZHXYZHXYZ"
    refusal(workos.NotFoundError, calls.create_event, organization_id=nobody, event=event(action))

    rows = rows_of(sdk, organization)
    assert [row["actor_name"] for row in rows] == ["Jon Smith", "Ann"], "one event for one key, and none that was refused"
    assert (rows[0]["action"], rows[0]["metadata"], rows[0]["version"]) == (action, '{"note":"Zoë"}', "1")
    assert rows[0]["targets"] == '[{"id":"invoice_1","metadata":{"cost":12.5},"type":"invoice"}]'


def test_exports_take_filters_and_hold_no_formulas(sdk: Any, organization: str, action: str) -> None:
    calls, other = sdk.audit_logs, f"team.{unique('left')}"
    calls.create_schema(other, targets=[AuditLogSchemaTargetInput(type="team")])
    calls.create_event(organization_id=organization, event=event(action, "=cmd|'/C calc'!A0"))
    team = [AuditLogEventTarget(id="@t", type="team", name="\x1b[2J\r\n=1")]
    calls.create_event(organization_id=organization, event=event(other, "Ann", targets=team))
    stranger = sdk.organizations.create_organization(name=unique("Globex")).id
    calls.create_event(organization_id=stranger, event=event(action, "Stranger"))

    rows = rows_of(sdk, organization)
    assert [row["actor_name"] for row in rows] == ["'=cmd|'/C calc'!A0", "Ann"]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r")) or "\x1b" in cell]
    for filters, names in (
        ({"actions": [other]}, ["Ann"]),
        ({"actor_names": ["Ann"]}, ["Ann"]),
        ({"actors": ["Ann"]}, ["Ann"]),
        ({"actor_ids": ["user_Ann"]}, ["Ann"]),
        ({"targets": ["team"]}, ["Ann"]),
        ({"actions": [unique("none")]}, []),
    ):
        assert [row["actor_name"] for row in rows_of(sdk, organization, **filters)] == names, filters

    now = datetime.now(timezone.utc)
    span = {"range_start": (now - timedelta(days=120)).isoformat(), "range_end": now.isoformat()}
    assert refusal(workos.BadRequestError, calls.create_export, organization_id=organization, **span).code
    refusal(workos.NotFoundError, calls.get_export, "audit_log_export_01HXYZHXYZHXYZHXYZHXYZHXYZ")


def test_retention_and_configuration(sdk: Any, organization: str) -> None:
    calls = sdk.audit_logs
    assert calls.get_organization_audit_logs_retention(organization).retention_period_in_days is None
    shown = sdk.organizations.get_audit_log_configuration(organization)
    assert (shown.organization_id, shown.retention_period_in_days, shown.log_stream) == (organization, 365, None)
    assert str(getattr(shown.state, "value", shown.state)) == "active"
    month = RetentionPeriodInDays(retention_period_in_days=30)
    assert calls.update_organization_audit_logs_retention(organization, retention=month).retention_period_in_days == 30
    assert sdk.organizations.get_audit_log_configuration(organization).retention_period_in_days == 30
    years = RetentionPeriod(retention_period="2_YEARS")
    assert calls.update_organization_audit_logs_retention(organization, retention=years).retention_period_in_days == 730
    assert calls.get_organization_audit_logs_retention(organization).retention_period_in_days == 730
    odd = RetentionPeriodInDays(retention_period_in_days=31)
    refusal(workos.UnprocessableEntityError, calls.update_organization_audit_logs_retention, organization, retention=odd)
    refusal(workos.NotFoundError, calls.get_organization_audit_logs_retention, "org_01HXYZHXYZHXYZHXYZHXYZHXYZ")


def test_every_operation_is_offered_by_the_sdk_and_was_answered(sdk: Any) -> None:
    """Last, and about all the tests above: run the file as a whole."""
    assert set(list_offered(sdk.client, AUDIT_LOGS).values()) == set(list_operations(AUDIT_LOGS))
    assert len(list_operations(AUDIT_LOGS)) == 9
    assert sdk.list_unanswered(AUDIT_LOGS) == {}
