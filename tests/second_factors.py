"""An authenticator app (RFC 6238), and what a person does with it on the hosted pages."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
import time
from dataclasses import dataclass, field

from hosted_pages import Browser, Page


@dataclass
class Authenticator:
    """Each code works once: it gives one of a time step that none was given of, and waits for it if it must."""

    secret: str
    step: int = field(default=0)

    def code(self) -> str:
        # A server allows for a clock that is one step off.
        now = int(time.time()) // 30
        self.step = max(self.step + 1, now)
        while self.step > int(time.time()) // 30 + 1:
            time.sleep(0.2)
        return self.code_of(self.step)

    def last_code(self) -> str:
        return self.code_of(self.step)

    def wrong_code(self) -> str:
        """A code that is none of those around now."""
        now = int(time.time()) // 30
        near = {self.code_of(now + away) for away in range(-5, 10)}
        return next(code for code in (f"{n:06}" for n in range(100)) if code not in near)

    def code_of(self, step: int) -> str:
        padded = self.secret + "=" * (-len(self.secret) % 8)
        digest = hmac.new(base64.b32decode(padded), struct.pack(">Q", step), hashlib.sha1).digest()
        at = digest[-1] & 15
        return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 10**6:06}"


def read_secret(html: str) -> str:
    """The key on the page that enrols an authenticator app."""
    found = re.search(r'id="secret" data-text="([A-Z2-7]+)"', html)
    assert found, html[:500]
    return found[1]


def read_recovery_codes(html: str) -> list[str]:
    return re.findall(r"<li><code>([^<]+)</code></li>", html)


def enroll(browser: Browser, page: Page) -> tuple[Page, Authenticator, list[str]]:
    """From `/mfa/enroll` to where the sign-in leads, with the new authenticator and the recovery codes of it."""
    assert "/mfa/enroll" in page.url, (page.url, page.text[:300])
    authenticator = Authenticator(read_secret(page.response.text))
    saved = browser.submit(page, page.load_form("code"), code=authenticator.code())
    codes = read_recovery_codes(saved.response.text)
    assert "/mfa/recovery-codes" in saved.url and codes, (saved.url, saved.text[:300])
    form = next(form for form in saved.forms if form.action == "/mfa/recovery-codes")
    return browser.submit(saved, form), authenticator, codes
