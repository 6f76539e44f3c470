"""The few pages of the sign-in routes: plain, escaped, without scripts."""

from __future__ import annotations

from html import escape

# No script runs and nothing is loaded; only our own form may be sent.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {server}; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; --bg: #f3f6f4; --card: #fff; --line: #dae1dd; --text: #14201c; --soft: #4c5a55; --accent: #0e6656; --on: #fff; --link: #0b5d4e; --focus: #a56a00 }}
@media (prefers-color-scheme: dark) {{ :root {{ --bg: #0c1211; --card: #161f1d; --line: #2a3633; --text: #e8efec; --soft: #aab8b3; --accent: #5fcbb3; --on: #05231c; --link: #74d5bf; --focus: #f2be55 }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 20px; background: var(--bg); color: var(--text); font: 16px/1.5 system-ui, sans-serif }}
main {{ width: 100%; max-width: 420px; padding: 32px; background: var(--card); border: 1px solid var(--line); border-radius: 16px }}
h1 {{ margin: 0 0 8px; font-size: 22px; line-height: 1.25 }}
p {{ margin: 0 0 24px; color: var(--soft); overflow-wrap: anywhere }}
.row {{ display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: center }}
.button {{ min-height: 44px; padding: 10px 20px; border: 0; border-radius: 10px; background: var(--accent); color: var(--on); font: 600 15px/24px system-ui, sans-serif; text-decoration: none; cursor: pointer }}
a {{ color: var(--link); text-underline-offset: 3px }}
a.button {{ color: var(--on) }}
:focus-visible {{ outline: 3px solid var(--focus); outline-offset: 2px }}
</style></head>
<body><main><h1>{title}</h1><p>{text}</p><div class="row">{actions}</div></main></body></html>
"""


def render_problem(problem: str, login: str) -> str:
    """Why nobody was signed in, and the way to try again."""
    link = f'<a class="button" href="{escape(login, quote=True)}">Sign in again</a><a href="/">Back to the app</a>'
    return _PAGE.format(title="You are not signed in", text=escape(problem), actions=link)


def render_not_a_member(problem: str) -> str:
    """The session goes on as it was: the way back is all there is to offer."""
    return _PAGE.format(title="Nothing was changed", text=escape(problem), actions='<a class="button" href="/">Back to the app</a>')


def render_sign_out(action: str) -> str:
    """Asks before signing out somebody who came here from elsewhere."""
    form = (
        f'<form method="post" action="{escape(action, quote=True)}"><button class="button">Sign out</button></form>'
        '<a href="/">Stay signed in</a>'
    )
    return _PAGE.format(title="Sign out?", text="You will be signed out of this app.", actions=form)
