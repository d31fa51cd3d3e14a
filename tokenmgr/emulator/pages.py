"""The pages that users see: HTML without a script, but for the one that posts a form by itself."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from string import Template

from .redirects import Redirect
from .sign_in import SignIn, Step

__all__ = ["device_page", "form_post_page", "message_page", "sign_in_page"]

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --back: #f0f2f5; --card: #fff; --text: #1b1b1f; --soft: #5c5f66; --line: #8a8d94;
  --accent: #0b62a8; --on-accent: #fff; --error: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #15171a; --card: #212428; --text: #eceef1;
  --soft: #a9adb5; --line: #7b8088; --accent: #6cb4f2; --on-accent: #0c1a26; --error: #ff9a92; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 16px;
  background: var(--back); color: var(--text); font: 16px/1.45 system-ui, sans-serif; }
main { width: 100%; max-width: 440px; padding: 36px 40px 40px; background: var(--card);
  border-radius: 8px; box-shadow: 0 2px 12px rgb(0 0 0 / 18%); }
.brand { margin: 0 0 20px; color: var(--soft); font-size: 14px; }
h1 { margin: 0 0 8px; font-size: 24px; font-weight: 600; }
p, ul { margin: 0 0 16px; } ul { padding-left: 20px; }
.soft { color: var(--soft); overflow-wrap: anywhere; }
.error { color: var(--error); overflow-wrap: anywhere; }
label { display: block; margin: 12px 0 4px; font-size: 14px; color: var(--soft); }
input { width: 100%; padding: 9px 10px; font: inherit; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: 4px; }
.actions { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: 8px; margin-top: 24px; }
button { padding: 8px 22px; font: inherit; color: var(--text); background: transparent;
  border: 1px solid var(--line); border-radius: 4px; cursor: pointer; }
button.main { color: var(--on-accent); background: var(--accent); border-color: var(--accent); }
button.account { display: block; width: 100%; margin-bottom: 8px; text-align: left; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
</style>
</head>
<body$onload>
<main>
<p class="brand">tokenmgr emulator &middot; no real account is asked for</p>
<h1>$title</h1>
$content
</main>
</body>
</html>
""")

_CANCEL = '<button name="action" value="cancel" formnovalidate>Cancel</button>'


def sign_in_page(sign_in: SignIn, *, action: str, error: str = "") -> str:
    """The page of a sign-in's next step.

    Args:
        sign_in: Whose page it is.
        action: Where its form is posted.
        error: What went wrong in the step before.
    """
    title, fields, buttons = _STEPS[sign_in.step](sign_in)
    shown = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    return _page(
        title,
        f'<p class="soft">to continue to {escape(sign_in.client_id)}</p>{shown}'
        f'<form method="post" action="{escape(action)}" autocomplete="off">'
        f'<input type="hidden" name="flow" value="{escape(sign_in.flow)}">'
        f'{fields}<div class="actions">{buttons}</div></form>',
    )


def device_page(*, action: str, user_code: str = "", error: str = "") -> str:
    """The page where the code is typed that a device shows."""
    shown = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    return _page(
        "Enter code",
        f"<p>Enter the code that your app or device shows.</p>{shown}"
        f'<form method="post" action="{escape(action)}" autocomplete="off">'
        f"{_field('user_code', 'Code', value=user_code)}"
        f'<div class="actions">{_main("Next")}</div></form>',
    )


def message_page(title: str, text: str) -> str:
    """A page that says something, and asks nothing."""
    return _page(title, f'<p class="soft">{escape(text)}</p>')


def form_post_page(redirect: Redirect) -> str:
    """A page that posts the answer to the app by itself (``response_mode=form_post``)."""
    return _page(
        "Signing you in",
        f'<form method="post" action="{escape(redirect.uri)}">{_hidden(redirect.parameters)}'
        f'<noscript><div class="actions">{_main("Continue")}</div></noscript></form>',
        onload=' onload="document.forms[0].submit()"',
    )


def _page(title: str, content: str, *, onload: str = "") -> str:
    return _PAGE.substitute(title=escape(title), content=content, onload=onload)


def _hidden(parameters: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in parameters.items()
    )


def _field(name: str, label: str, *, kind: str = "text", value: str = "", hint: str = "") -> str:
    focus = "" if value else " autofocus"
    return (
        f'<label for="{name}">{label}</label><input id="{name}" name="{name}" type="{kind}" '
        f'value="{escape(value)}" placeholder="{escape(hint)}" required{focus}>'
    )


def _main(text: str, value: str = "next") -> str:
    return f'<button class="main" name="action" value="{value}">{text}</button>'


def _pick(sign_in: SignIn) -> tuple[str, str, str]:
    names = [user.username for user, _ in sign_in.fitting or sign_in.accounts]
    accounts = "".join(
        f'<button class="account" name="account" value="{escape(name)}">{escape(name)}</button>'
        for name in names
    )
    other = '<button class="account" name="account" value="">Use another account</button>'
    return "Pick an account", accounts + other, _CANCEL


def _password(sign_in: SignIn) -> tuple[str, str, str]:
    hint = f"someone@{sign_in.domain_hint or 'example.com'}"
    known = sign_in.account[0].username if sign_in.account else sign_in.login_hint
    name = sign_in.typed or known
    fields = _field("username", "User name", value=name, hint=hint)
    return (
        "Sign in",
        fields + _field("password", "Password", kind="password"),
        _CANCEL + _main("Sign in"),
    )


def _mfa(sign_in: SignIn) -> tuple[str, str, str]:  # noqa: ARG001 - as the others
    text = "<p>Your organization wants to be sure that it is you.</p>"
    field = _field("mfa_code", "Code of your authenticator app")
    return "Verify your identity", text + field, _CANCEL + _main("Verify")


def _consent(sign_in: SignIn) -> tuple[str, str, str]:
    asked = [f"{each.resource}/{name}" for each in sign_in.scopes for name in each.names]
    asked += sorted(frozenset().union(*(each.openid for each in sign_in.scopes)))
    listed = "".join(f"<li>{escape(name)}</li>" for name in asked)
    text = f"<p>This app would like to:</p><ul>{listed}</ul>"
    return "Permissions requested", text, _CANCEL + _main("Accept", "accept")


def _done(sign_in: SignIn) -> tuple[str, str, str]:
    """Whoever types a device's code says once more that this is what they want."""
    name = sign_in.account[0].username if sign_in.account else ""
    text = f"<p>Are you trying to sign in on another device, as {escape(name)}?</p>"
    return "Continue on your device", text, _CANCEL + _main("Continue", "continue")


_STEPS = {
    Step.PICK: _pick,
    Step.PASSWORD: _password,
    Step.MFA: _mfa,
    Step.CONSENT: _consent,
    Step.DONE: _done,
}
