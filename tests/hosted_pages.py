"""A browser without JavaScript: follows redirects, keeps cookies, reads forms and posts them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from time import time
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from recording import open_client
from running_server import Server

# A redirect here is not followed: tests that need only the code end their sign-in on it.
CALLBACK = "http://localhost:9/callback"


@dataclass
class Field:
    name: str
    type: str
    value: str
    autocomplete: str

    @property
    def meaning(self) -> str:
        """What the field asks for: email, password, code, or its own name."""
        if self.autocomplete == "one-time-code" or self.name in {"code", "user_code"}:
            return "code"
        if self.type == "password":
            return "password"
        if self.type == "email" or self.name == "email":
            return "email"
        return self.name


@dataclass
class Form:
    action: str
    method: str
    fields: list[Field] = field(default_factory=list)
    buttons: list[Field] = field(default_factory=list)
    text: str = ""

    def find(self, meaning: str) -> Field | None:
        return next((f for f in self.fields if f.type != "hidden" and f.meaning == meaning), None)

    @property
    def visible(self) -> set[str]:
        return {f.meaning for f in self.fields if f.type != "hidden"}


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self._form: Form | None = None
        self._link: str | None = None
        self._link_text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {k: v or "" for k, v in attrs}
        if tag == "form":
            self._form = Form(a.get("action", ""), a.get("method", "get").lower())
            self.forms.append(self._form)
        elif tag == "a" and "href" in a:
            self._link, self._link_text = a["href"], ""
        elif self._form and tag in {"input", "button", "select", "textarea"}:
            kind = a.get("type", "submit" if tag == "button" else "text").lower()
            named = Field(a.get("name", ""), kind, a.get("value", ""), a.get("autocomplete", ""))
            if kind in {"submit", "image"}:
                self._form.buttons.append(Field(named.name, a.get("formaction", ""), named.value, ""))
            elif named.name and "disabled" not in a and not (kind in {"checkbox", "radio"} and "checked" not in a):
                self._form.fields.append(named)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "a" and self._link is not None:
            self.links.append((" ".join(self._link_text.split()), self._link))
            self._link = None

    def handle_data(self, data: str) -> None:
        if self._link is not None:
            self._link_text += data
        if self._form:
            self._form.text += data


@dataclass
class Page:
    url: str
    response: httpx.Response
    forms: list[Form]
    links: list[tuple[str, str]]

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def text(self) -> str:
        """What a person reads, without markup."""
        body = re.sub(r"<(style|script|head)\b.*?</\1>", " ", self.response.text, flags=re.S)
        return " ".join(re.sub(r"<[^>]+>", " ", body).split())

    def find_form(self, *meanings: str) -> Form | None:
        return next((f for f in self.forms if set(meanings) <= f.visible), None)

    def load_form(self, *meanings: str) -> Form:
        form = self.find_form(*meanings)
        shown = [(f.action, sorted(f.visible)) for f in self.forms]
        assert form, f"no form with {meanings} at {self.url} (status {self.status}); forms: {shown}; text: {self.text[:300]}"
        return form

    def find_link(self, pattern: str) -> str | None:
        """The address of the first link whose text or address matches."""
        return next((href for text, href in self.links if re.search(pattern, text, re.I) or re.search(pattern, href, re.I)), None)

    @property
    def query(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.url).query).items()}


@dataclass
class Cookie:
    value: str
    path: str
    expires: float | None
    attributes: dict[str, str]


class Browser:
    """Cookies belong to a host, whatever its port, as in real browsers; localhost counts as secure."""

    def __init__(self, language: str = "en", user_agent: str = "Mozilla/5.0 (X11; Linux x86_64) plain forms") -> None:
        self.client = open_client(headers={"accept-language": language, "user-agent": user_agent, "accept": "text/html,*/*;q=0.8"})
        self.cookies: dict[tuple[str, str, str], Cookie] = {}

    def open(self, url: str) -> Page:
        return self._send("GET", url, None, None)

    def click(self, page: Page, pattern: str) -> Page:
        link = page.find_link(pattern)
        assert link, f"no link {pattern!r} at {page.url}; links: {page.links}"
        return self.open(urljoin(page.url, link))

    def submit(self, page: Page, form: Form, button: Field | None = None, **values: str) -> Page:
        """Fills fields by their meaning and presses the first button, or the given one."""
        pairs = {f.name: f.value for f in form.fields}
        for meaning, value in values.items():
            asked = form.find(meaning)
            assert asked, f"the form {form.action!r} asks for {sorted(form.visible)}, not for {meaning}"
            pairs[asked.name] = value
        pressed = button or (form.buttons[0] if form.buttons else None)
        if pressed and pressed.name:
            pairs[pressed.name] = pressed.value
        target = urljoin(page.url, (pressed.type if pressed and button else "") or form.action or page.url)
        if form.method == "get":
            return self._send("GET", str(httpx.URL(target, params=pairs)), None, page.url)
        return self._send("POST", target, pairs, page.url)

    def post(self, url: str, fields: dict[str, str]) -> Page:
        """What a script of the page sends."""
        return self._send("POST", url, fields, url)

    def _send(self, method: str, url: str, data: dict[str, str] | None, origin_page: str | None) -> Page:
        for _ in range(20):
            headers = {}
            if held := self._cookies_for(url):
                headers["cookie"] = "; ".join(f"{name}={value}" for name, value in held.items())
            if method == "POST" and origin_page:
                headers |= {"origin": origin_of(origin_page), "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
            response = self.client.request(method, url, data=data, headers=headers)
            self._keep(url, response)
            if response.status_code not in {301, 302, 303, 307, 308} or "location" not in response.headers:
                reader = Reader(response.text) if "html" in response.headers.get("content-type", "") else None
                return Page(url, response, reader.forms if reader else [], reader.links if reader else [])
            url = urljoin(url, response.headers["location"])
            if url.startswith(CALLBACK.rsplit("/", 1)[0] + "/"):
                return Page(url, response, [], [])
            if response.status_code not in {307, 308}:
                method, data = "GET", None
        raise AssertionError(f"redirects without end, lastly to {url}")

    def _cookies_for(self, url: str) -> dict[str, str]:
        parts = urlsplit(url)
        path = parts.path or "/"
        return {
            name: c.value
            for (host, name, _), c in self.cookies.items()
            if host == parts.hostname
            and (c.expires is None or c.expires > time())
            and (path == c.path or path.startswith(c.path if c.path.endswith("/") else c.path + "/"))
        }

    def _keep(self, url: str, response: httpx.Response) -> None:
        host = urlsplit(url).hostname or ""
        for header in response.headers.get_list("set-cookie"):
            (name, _, value), *rest = (part.strip().partition("=") for part in header.split(";"))
            attributes = {k.lower(): v for k, _, v in rest}
            path = attributes.get("path") or "/"
            expires = None
            if "max-age" in attributes:
                expires = time() + int(attributes["max-age"])
            elif "expires" in attributes:
                expires = parsedate_to_datetime(attributes["expires"]).timestamp()
            if expires is not None and expires <= time():
                self.cookies.pop((host, name, path), None)
            else:
                self.cookies[host, name, path] = Cookie(value, path, expires, attributes)


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def authorize_url(server: Server, **parameters: str) -> str:
    asked = {"response_type": "code", "client_id": server.client_id, "redirect_uri": CALLBACK, "provider": "authkit", **parameters}
    return str(httpx.URL(f"{server.url}/user_management/authorize", params={k: v for k, v in asked.items() if v}))


def is_on(server: Server, page: Page) -> bool:
    return origin_of(page.url) == server.url


def complete(browser: Browser, server: Server, page: Page, **answers: str) -> Page:
    """Answers whatever the server's pages ask for (e-mail, password, names, mailed code) until they send the browser back."""
    for _ in range(8):
        if not is_on(server, page):
            return page
        form = next((f for meaning in ("code", "password", "email") for f in page.forms if meaning in f.visible), None)
        assert form, f"nothing to fill in at {page.url} (status {page.status}): {page.text[:400]}"
        filled = {m: answers[m] for m in form.visible if m in answers}
        if "code" in form.visible and "code" not in filled:
            filled["code"] = server.take_code(answers["email"])
        before = (page.url, page.text)
        page = browser.submit(page, form, **filled)
        assert (page.url, page.text) != before and page.status < 400, f"stuck at {page.url} (status {page.status}): {page.text[:400]}"
    raise AssertionError(f"sign-in did not end; still at {page.url}")


def sign_up(browser: Browser, server: Server, start: str, email: str, password: str) -> Page:
    """Creates an account through the pages, proves the address by the mailed code and returns to the app."""
    return complete(browser, server, browser.open(start), email=email, password=password)


def sign_in(browser: Browser, server: Server, start: str, email: str, password: str) -> Page:
    return complete(browser, server, browser.open(start), email=email, password=password)


def obtain_code(server: Server, email: str, password: str, browser: Browser | None = None, **parameters: str) -> str:
    """An authorization code for this user, through the hosted sign-in."""
    page = sign_in(browser or Browser(), server, authorize_url(server, **parameters), email, password)
    assert page.url.startswith(CALLBACK), f"ended at {page.url} (status {page.status}): {page.text[:300]}"
    assert "code" in page.query, f"no code came back: {page.url}"
    return page.query["code"]


def approve_device(server: Server, address: str, user_code: str, email: str, password: str) -> None:
    """Types the code, signs in and confirms, in whatever order the pages ask."""
    browser = Browser()
    page = browser.open(address)
    for _ in range(8):
        form = next((f for f in page.forms if f.visible & {"code", "password", "email"}), None)
        if form is None:
            confirming = [f for f in page.forms if f.method == "post" and f.buttons]
            if not confirming:
                break
            page = browser.submit(page, confirming[0], next(b for b in confirming[0].buttons if b.value == "allow"))
        else:
            values = {"code": user_code, "email": email, "password": password}
            page = browser.submit(page, form, **{m: values[m] for m in form.visible if m in values})
        assert page.status < 400, f"{page.url}: {page.text[:300]}"
    assert is_on(server, page)
