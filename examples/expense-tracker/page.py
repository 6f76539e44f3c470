"""The page of the expense tracker: HTML for people who would rather click than curl."""

from decimal import Decimal
from html import escape
from string import Template
from typing import NamedTuple

from expenses import Expense
from organizations import Organization


class Links(NamedTuple):
    sign_in: str
    sign_out: str
    switch: str  # takes a form with `organization_id`


def render_welcome(links: Links) -> str:
    return render(
        "<h1>Know where it went.</h1><p>A small expense tracker. Rows stay within your organization.</p>"
        f'<p class="row"><a class="button" href="{links.sign_in}">Sign in</a>'
        f'<a class="quiet" href="{links.sign_in}?screen_hint=sign-up">Create an account</a></p>'
    )


def render_refusal(reason: str, sign_in: str) -> str:
    return render(f'<h1>Not signed in</h1><p>{escape(reason)}</p><p class="row"><a class="button" href="{sign_in}">Sign in again</a></p>')


def render_expenses(
    links: Links,
    email: str,
    organization_id: str | None,
    organizations: list[Organization],
    expenses: list[Expense],
    approves: bool,
    description: str = "",
    amount: str = "",
    problem: str = "",
    impersonator: str | None = None,
) -> str:
    here = next((one.name for one in organizations if one.id == organization_id), organization_id) or "Personal"
    total = sum((e.amount for e in expenses), Decimal(0))
    table = (
        f'<table><thead><tr><th>Expense</th><th class="amount">Amount</th></tr></thead>'
        f"<tbody>{''.join(render_row(e, email, approves) for e in expenses)}</tbody>"
        f'<tfoot><tr><th>Total</th><td class="amount">{total:,.2f}</td></tr></tfoot></table>'
        if expenses
        else '<p class="empty">Nothing yet. Add the first one above.</p>'
    )
    alert = f'<p class="alert" id="problem" role="alert">{escape(problem)}</p>' if problem else ""
    described = ' aria-invalid="true" aria-describedby="problem"' if problem else ""
    return render(
        f'<div class="place"><b>{escape(here)}</b>{render_switch(links, organization_id, organizations)}</div>'
        f"<h1>{'Everybody’s' if approves else 'Your'} expenses</h1>{alert}"
        f'<form class="add" method="post" action="/"><label>What for<input name="description" required maxlength="200"'
        f' value="{escape(description)}"{described}></label><label class="short">Amount<input name="amount" required inputmode="decimal"'
        f' placeholder="12.50" value="{escape(amount)}"{described}></label><button class="button">Add</button></form>{table}',
        f'<span class="who">Signed in as <b>{escape(email)}</b></span> <form method="post" action="{links.sign_out}"><button class="link">Sign out</button></form>',
        render_banner(links, email, impersonator) if impersonator else "",
    )


def render_banner(links: Links, email: str, impersonator: str) -> str:
    """First on the page: whoever of support acts as somebody is told so, and by what name."""
    return (
        f'<aside class="acting" aria-label="Impersonation"><span><b>You are viewing as {escape(email)}.</b>'
        f' Recorded as {escape(impersonator)}.</span>'
        f'<form method="post" action="{links.sign_out}"><button>Stop now</button></form></aside>'
    )


def render_switch(links: Links, organization_id: str | None, organizations: list[Organization]) -> str:
    others = "".join(f'<option value="{escape(one.id)}">{escape(one.name)}</option>' for one in organizations if one.id != organization_id)
    if not others:
        return ""
    return (
        f'<form method="post" action="{links.switch}"><select name="organization_id" aria-label="Another organization of yours">{others}</select>'
        ' <button class="link">Switch</button></form>'
    )


def render_row(expense: Expense, email: str, approves: bool) -> str:
    who = f"{escape(expense.email)} · " if expense.email != email else ""
    state = '<span class="approved">Approved</span>' if expense.approved else ""
    if approves and not expense.approved:
        state = (
            '<form method="post" action="/approve"><button class="link" name="expense_id"'
            f' value="{expense.id}" aria-label="Approve {escape(expense.description)}">Approve</button></form>'
        )
    return (
        f'<tr><td>{escape(expense.description)}<small>{who}<time datetime="{expense.created_at.isoformat()}">{expense.created_at:%d %b %Y}</time>'
        f'</small></td><td class="amount">{expense.amount:,.2f}<small>{state}</small></td></tr>'
    )


def render(body: str, account: str = "", banner: str = "") -> str:
    return PAGE.substitute(body=body, account=account, banner=banner)


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Expense tracker</title><link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --bg: #f3f6f4; --card: #fff; --line: #dae1dd; --edge: #7b8883; --text: #14201c; --soft: #4c5a55;
  --accent: #0e6656; --on: #fff; --link: #0b5d4e; --bad: #9e1d16; --bad-bg: #fcecea; --focus: #a56a00 }
@media (prefers-color-scheme: dark) { :root { --bg: #0c1211; --card: #161f1d; --line: #2a3633; --edge: #71807b; --text: #e8efec; --soft: #aab8b3;
  --accent: #5fcbb3; --on: #05231c; --link: #74d5bf; --bad: #f7a199; --bad-bg: #351816; --focus: #f2be55 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--bg); color: var(--text); font: 16px/1.5 system-ui, sans-serif }
.acting { display: flex; gap: 16px; justify-content: center; align-items: center; padding: 8px 20px; background: #bd8a2b;
  color: #1b1203; font-size: 14px }
.acting span { min-width: 0; overflow-wrap: anywhere }
.acting form { flex: none }
.acting button { min-height: 30px; padding: 4px 12px; border: 0; border-radius: 8px; background: #1b1203; color: #fff; font: inherit; font-weight: 600; cursor: pointer }
@media (prefers-color-scheme: dark) { .acting { background: #e2b65c } }
header, main { max-width: 640px; margin: 0 auto; padding: 16px 20px }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; font-size: 14px }
header > strong { margin-right: auto; font-size: 16px }
.who { color: var(--soft); overflow-wrap: anywhere }
main { background: var(--card); border: 1px solid var(--line); border-radius: 16px; padding: 32px; margin-top: 4vh }
h1 { margin: 0 0 8px; font-size: 24px; line-height: 1.25; letter-spacing: -.014em }
main > p { margin: 0 0 20px; color: var(--soft) }
.place { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 4px 16px; margin-bottom: 4px; font-size: 14px; color: var(--soft) }
.row { display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: center; margin: 0 }
a { color: var(--link); text-underline-offset: 3px }
.button { display: inline-block; min-height: 44px; padding: 10px 20px; border: 0; border-radius: 10px; background: var(--accent); color: var(--on);
  font-family: inherit; font-size: 15px; font-weight: 600; line-height: 24px; text-decoration: none; cursor: pointer }
form.add { display: flex; flex-wrap: wrap; gap: 12px; align-items: end; margin: 16px 0 24px }
.link { padding: 0; border: 0; background: none; color: var(--link); font: inherit; text-decoration: underline; text-underline-offset: 3px; cursor: pointer }
label { flex: 1 1 200px; display: grid; gap: 6px; font-weight: 600; font-size: 15px }
label.short { flex: 0 1 130px }
input { width: 100%; min-height: 44px; padding: 8px 12px; border: 1px solid var(--edge); border-radius: 10px; background: transparent; color: inherit; font: inherit; font-weight: 400 }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px }
table { width: 100%; border-collapse: collapse }
th, td { padding: 10px 0; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: anywhere }
thead th { color: var(--soft); font-size: 13px }
tfoot th, tfoot td { border: 0; font-weight: 600 }
th.amount, td.amount { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
small { display: block; color: var(--soft); font-size: 13px }
select { max-width: 180px; padding: 2px 6px; border: 1px solid var(--edge); border-radius: 6px; background: var(--bg); color: inherit; font: inherit }
.empty { padding: 24px; border: 1px dashed var(--edge); border-radius: 10px; text-align: center }
main > .alert { margin: 16px 0 0; padding: 10px 14px; border-radius: 10px; background: var(--bad-bg); color: var(--bad) }
@media (max-width: 480px) { main { border-width: 1px 0; border-radius: 0; padding: 24px 20px; margin-top: 8px } label.short { flex: 1 1 100px } form.add .button { flex: 1 } }
</style>
</head>
<body>
$banner<header><strong>Expense tracker</strong> $account</header>
<main>$body</main>
</body>
</html>
""")
