"""A single-page app with the unmodified authkit-js: PKCE, CORS, and refresh by cookie or from its own storage."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import httpx
import pytest
from playwright.sync_api import Page, expect

from accounts import create_account
from browser.clicking import give_password
from running_server import Server

PAGE = Template("""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page app</title><link rel="icon" href="data:,"></head><body>
<h1>Page app</h1><p id="who">loading</p><button id="in">Sign in</button><button id="renew">Renew</button><button id="out">Sign out</button>
<script type="module">
import { createClient } from './authkit.mjs';
const client = await createClient('$client_id', { apiHostname: '$host', port: $port, https: false, devMode: $dev_mode, redirectUri: location.origin + '/' });
const show = () => { document.getElementById('who').textContent = client.getUser()?.email ?? 'nobody'; };
document.getElementById('in').onclick = () => client.signIn({ state: { from: 'here' } });
document.getElementById('renew').onclick = async () => { window.renewed = await client.getAccessToken({ forceRefresh: true }); show(); };
document.getElementById('out').onclick = () => client.signOut({ returnTo: location.origin });
show();
</script></body></html>""")


@pytest.fixture(params=[True, False], ids=["own-storage", "cookie"])
def page_app(request: pytest.FixtureRequest, server: Server, api: httpx.Client) -> Iterator[str]:
    modules = os.environ.get("GATEWRIGHT_NODE_DIR")
    assert modules, "GATEWRIGHT_NODE_DIR names no folder with @workos-inc/authkit-js; run the suites with tests/run.py"
    library = (Path(modules) / "node_modules/@workos-inc/authkit-js/dist/index.mjs").read_bytes()
    url = httpx.URL(server.url)
    page = PAGE.substitute(client_id=server.client_id, host=url.host, port=url.port, dev_mode=str(request.param).lower()).encode()

    class Serve(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = ("text/javascript", library) if self.path == "/authkit.mjs" else ("text/html", page)
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    files = ThreadingHTTPServer(("127.0.0.1", 0), Serve)
    threading.Thread(target=files.serve_forever, daemon=True).start()
    origin = f"http://localhost:{files.server_port}"
    assert api.post("/user_management/cors_origins", json={"origin": origin}).status_code == 201
    yield origin
    files.shutdown()
    files.server_close()


def test_authkit_js_signs_in_renews_reloads_and_signs_out(open_page: Callable[..., Page], server: Server, page_app: str) -> None:
    page, account = open_page(), create_account(server, "spa")
    page.goto(page_app)
    expect(page.locator("#who")).to_have_text("nobody")
    page.locator("#in").click()
    give_password(page, account.email)
    expect(page.locator("#who")).to_have_text(account.email)
    assert "code=" not in page.url
    page.locator("#renew").click()
    page.wait_for_function("window.renewed?.split('.').length === 3")

    page.reload()
    expect(page.locator("#who")).to_have_text(account.email)
    page.locator("#out").click()
    expect(page.locator("#who")).to_have_text("nobody")
    page.reload()
    expect(page.locator("#who")).to_have_text("nobody")
