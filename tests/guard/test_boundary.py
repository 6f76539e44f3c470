"""`gatewright boundary`: the page says what is so in this very deployment, and says it when it cannot know."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from running_server import BINARY, Server, open_database, start_server


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server, and its data folder."""
    data = tmp_path_factory.mktemp("reviewed")
    with open_database() as database:
        server = start_server(data=data, database=database)
        try:
            server.wait_for_next_key()
            yield server, data
        finally:
            server.stop()


def review(data: Path, folder: Path) -> tuple[dict[str, Any], str]:
    reports = [folder / "boundary.json", folder / "boundary.md"]
    command = [str(BINARY), "boundary", "--data", str(data), "--json", str(reports[0]), "--markdown", str(reports[1])]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(reports[0].read_text()), reports[1].read_text()


def lines(page: dict[str, Any], section: str) -> dict[str, str]:
    [found] = [one for one in page["sections"] if one["title"] == section]
    return {line["what"]: line["value"] for line in found["lines"]}


def test_the_inventory_is_that_of_the_running_server(kept: tuple[Server, Path], tmp_path: Path, http: httpx.Client) -> None:
    server, data = kept
    page, markdown = review(data, tmp_path)
    inventory = lines(page, "Key inventory of development")
    published = {key["kid"] for key in http.get(f"{server.url}/sso/jwks/{server.client_id}").json()["keys"]}
    assert {what.removeprefix("Signing key ") for what in inventory if what.startswith("Signing key ")} == published
    assert inventory["Clients"] == server.client_id and inventory["API keys of the environment"].startswith("1 live of 1")
    assert lines(page, "Deployment")["Public address"] == server.url
    assert server.api_key not in markdown and server.cookie_password not in markdown


def test_a_setting_that_changes_changes_the_page(kept: tuple[Server, Path], tmp_path: Path) -> None:
    server, data = kept
    assert lines(review(data, tmp_path)[0], "Environment development")["Access token"] == "5 minutes"
    server.set_settings(data, access_token_seconds="600", password="false")
    changed = lines(review(data, tmp_path)[0], "Environment development")
    assert (changed["Access token"], changed["Password"]) == ("10 minutes", "false")


def test_what_is_served_is_where_the_page_says(kept: tuple[Server, Path], tmp_path: Path, http: httpx.Client) -> None:
    server, data = kept
    served = http.get(f"{server.url}/openapi.json").json()["paths"]
    for value in lines(review(data, tmp_path)[0], "Where sign-in and sessions live").values():
        method, _, url = value.partition(" ")
        assert method.lower() in served[url.removeprefix(server.url)], value


def test_a_database_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    config = tmp_path / "gatewright.toml"
    config.write_text(
        'public_url = "https://auth.example.com"\n[database]\nurl = "postgres://gw:hunter2@127.0.0.1:1/gw"\n'
        '[mail]\nsmtp_url = "smtps://mailer:hunter2@mail.example.com"\n'
    )
    command = [str(BINARY), "boundary", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "| Keys and clients | not read: " in ended.stdout and "Every environment that sets nothing else" in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr
