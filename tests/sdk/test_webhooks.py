"""Webhooks as the official SDKs verify them: the Python helper over the raw body, the Node helper over the parsed one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from workos import WorkOSClient

from organizations import unique
from running_server import Server
from sdk.node_sdk import NodeCall, thrown
from webhook_receiver import Received, Receiver, running_receiver

HEADER, PREVIOUS = "workos-signature", "gatewright-previous-signature"
# What a re-serialisation would change if we wrote it otherwise than JavaScript does.
HARD_NAMES = ['Zoë "Söhne" & Co', "a/b\\c", "日本語 😀", "tab\tnew\u2028line", "<script>"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def client(server: Server) -> WorkOSClient:
    return WorkOSClient(api_key=server.api_key, client_id=server.client_id, base_url=server.url)


@pytest.fixture
def endpoint(client: WorkOSClient, receiver: Receiver) -> Iterator[Any]:
    made = client.webhooks.create_webhook_endpoint(endpoint_url=receiver.url, events=["organization.created", "organization.updated"])
    yield made
    client.webhooks.delete_webhook_endpoint(made.id)


def cause(client: WorkOSClient, receiver: Receiver, name: str) -> Received:
    made = client.organizations.create_organization(name=name)
    return receiver.wait_for(made.id)


def test_the_python_sdk_manages_endpoints(client: WorkOSClient, receiver: Receiver) -> None:
    made = client.webhooks.create_webhook_endpoint(endpoint_url=receiver.url, events=["user.created"])
    assert made.secret.startswith("whsec_") and made.status == "enabled" and list(made.events) == ["user.created"]
    listed = {one.id: one for one in client.webhooks.list_webhook_endpoints().auto_paging_iter()}
    assert listed[made.id].secret == made.secret
    changed = client.webhooks.update_webhook_endpoint(made.id, status="disabled")
    assert changed.status == "disabled"
    client.webhooks.delete_webhook_endpoint(made.id)
    assert made.id not in {one.id for one in client.webhooks.list_webhook_endpoints().auto_paging_iter()}


def test_the_python_helper_verifies_the_raw_body(client: WorkOSClient, receiver: Receiver, endpoint: Any) -> None:
    for name in HARD_NAMES:
        got = cause(client, receiver, unique(name.replace("\t", " ").replace("\u2028", " ")))
        event = client.webhooks.verify_event(event_body=got.body, event_signature=got.headers[HEADER], secret=endpoint.secret)
        assert event.id == got.event["id"]
        for secret, body in [("whsec_other", got.body), (endpoint.secret, got.body + b" ")]:
            with pytest.raises(ValueError, match="does not match"):
                client.webhooks.verify_header(event_body=body, event_signature=got.headers[HEADER], secret=secret)


def test_the_node_helper_verifies_the_parsed_body(client: WorkOSClient, receiver: Receiver, endpoint: Any, node: NodeCall) -> None:
    for name in HARD_NAMES:
        metadata = {"10": "ten", "2": "two", "b": "x\"y", "a": "/"}
        made = client.organizations.create_organization(name=unique(name.replace("\t", " ").replace("\u2028", " ")), metadata=metadata)
        got = receiver.wait_for(made.id)
        given = {"payload": got.event, "sigHeader": got.headers[HEADER], "secret": endpoint.secret}
        assert node("webhooks.verifyHeader", given) is True
        assert node("webhooks.constructEvent", given)["id"] == got.event["id"]
        refused = thrown(node, "webhooks.verifyHeader", {**given, "secret": "whsec_other"})
        assert "does not match" in json.dumps(refused)


def test_javascript_writes_the_body_again_byte_for_byte(client: WorkOSClient, receiver: Receiver, endpoint: Any) -> None:
    made = client.organizations.create_organization(name=unique("é/😀"), metadata={"10": "ten", "2": "two", "01": "x"})
    body = receiver.wait_for(made.id).body
    script = "const t=require('fs').readFileSync(0,'utf8');process.stdout.write(JSON.stringify(JSON.parse(t)))"
    again = subprocess.run(["node", "-e", script], input=body, capture_output=True, check=True, timeout=30).stdout
    assert again == body


def test_the_webhook_is_the_event_of_the_events_api(client: WorkOSClient, receiver: Receiver, endpoint: Any) -> None:
    got = cause(client, receiver, unique("same"))
    listed = {event.id for event in client.events.list_events(events=["organization.created"]).auto_paging_iter()}
    assert got.event["id"] in listed


def test_row_74_during_a_rotation_either_secret_verifies(server: Server, client: WorkOSClient, receiver: Receiver, endpoint: Any) -> None:
    import httpx

    headers = {"authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as api:
        rotated = api.post(f"/webhook_endpoints/{endpoint.id}/rotate_secret", json={}).raise_for_status().json()
    got = cause(client, receiver, unique("rotated"))
    client.webhooks.verify_header(event_body=got.body, event_signature=got.headers[HEADER], secret=rotated["secret"])
    client.webhooks.verify_header(event_body=got.body, event_signature=got.headers[PREVIOUS], secret=endpoint.secret)
    # The helper takes one signature a header and no more, which is why the second one has a header of its own.
    two = f"{got.headers[HEADER]}, v1={got.headers[PREVIOUS].split('v1=')[1]}"
    with pytest.raises(ValueError, match="Unable to extract"):
        client.webhooks.verify_header(event_body=got.body, event_signature=two, secret=rotated["secret"])
