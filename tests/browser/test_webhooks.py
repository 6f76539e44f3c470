"""The page of `gatewright dev` that shows webhooks, looked at and used."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from playwright.sync_api import Page, expect

from browser.looking import look
from organizations import unique
from running_server import running_server
from webhook_receiver import running_receiver

OpenPage = Callable[..., Page]


def test_the_webhooks_page_shows_what_was_sent_and_sends_it_again(open_page: OpenPage) -> None:
    with running_server() as server, running_receiver() as receiver:
        page = open_page()
        page.goto(f"{server.url}/dev/webhooks")
        expect(page.get_by_role("heading", level=1)).to_have_text("No webhooks yet")
        look(page, "dev-webhooks-empty")
        headers = {"authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as api:
            for url, events in (
                (receiver.url, ["organization.created", "organization.updated"]),
                (f"http://127.0.0.1:9/hooks/{'a-long-path-' * 8}", ["organization.created"]),
            ):
                api.post("/webhook_endpoints", json={"endpoint_url": url, "events": events}).raise_for_status()
            name = unique("Quartz & Söhne")
            made = api.post("/organizations", json={"name": name}).raise_for_status().json()
            receiver.wait_for(made["id"])
            receiver.status = 500
            api.put(f"/organizations/{made['id']}", json={"name": f"{name} AG"}).raise_for_status()
            receiver.wait_for(f"{name} AG")
        page.goto(f"{server.url}/dev/webhooks")
        expect(page.get_by_text("organization.updated").first).to_be_visible()
        look(page, "dev-webhooks")
        page.get_by_role("link", name="organization.updated").click()
        expect(page.locator("pre")).to_contain_text(f"{name} AG")
        look(page, "dev-webhook")
        receiver.status = 200
        before = len(receiver.received)
        page.get_by_role("button", name="Send again").click()
        page.wait_for_url("**/dev/webhooks/webhook_delivery_*")
        deadline = time.monotonic() + 10
        while len(receiver.received) == before or "Delivered" not in page.locator(".reader").inner_text():
            assert time.monotonic() < deadline, "it was not sent again"
            page.reload()
        assert len(receiver.received) == before + 1
