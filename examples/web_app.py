"""A web app whose users sign in with Entra, and see what Microsoft Graph says of them.

Their browser holds a signed cookie with the id of their account, and no token. Whichever worker
they come to finds them in the store, and calls Graph with their token, which is renewed in silence.
The app is found in the environment, as in the other examples. Its registration has these redirect
URIs of the platform "Web": ``http://localhost:8000/signed-in`` and, for who has signed out,
``http://localhost:8000/``. See README.md next to it.

    pip install tokenmgr flask gunicorn requests
    export FLASK_SECRET_KEY=… TOKENMGR_STORE=sqlite:///users.db TOKENMGR_ENCRYPTION_KEY=…
    gunicorn --chdir examples --workers 2 --bind localhost:8000 web_app:app
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import requests
from flask import Flask, redirect, render_template_string, request, session, url_for
from flask.typing import ResponseReturnValue

from tokenmgr import (
    ConsentRequiredError,
    InteractionRequiredError,
    TokenManagerError,
    TokenRegistry,
    UserSession,
)
from tokenmgr.http.requests import BearerAuth

GRAPH = os.environ.get("GRAPH_URL", "https://graph.microsoft.com/v1.0")
SCOPE = "https://graph.microsoft.com/User.Read"
PAGE = """<!doctype html><title>{{ title }}</title><h1>{{ title }}</h1>
<pre>{{ said }}</pre>
{% if session.user %}
<form method="post" action="{{ url_for('sign_out') }}"><button>Sign out</button></form>
{% else %}
<a href="{{ url_for('sign_in') }}">Sign in</a>
{% endif %}"""

app = Flask(__name__)
app.secret_key = os.environ["FLASK_SECRET_KEY"]
# The cookie comes along when Entra sends the browser back, and with no form of another site. Where
# the app is reached by https, set SESSION_COOKIE_SECURE too.
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
# For the whole program. Its store is what workers, and restarts, have in common. BearerAuth answers
# the challenges by which Graph, with cae=True, asks for another sign-in as soon as one is due.
tokens = TokenRegistry.from_env(cae=True)


def signed_in_user() -> UserSession:
    """Gives who uses this browser. Where that is nobody (any more), they are sent to sign in."""
    return tokens.user(session.get("user", ""))


@app.get("/")
def me() -> ResponseReturnValue:
    """Shows what Graph says of the user."""
    user = signed_in_user()
    # The token goes to Graph alone, and is replaced where Graph refuses it.
    auth = BearerAuth(user.manager(SCOPE), hosts=[urlsplit(GRAPH).netloc])
    answer = requests.get(f"{GRAPH}/me", auth=auth, timeout=10)
    answer.raise_for_status()
    return render_template_string(PAGE, title=user.username, said=answer.text)


@app.errorhandler(InteractionRequiredError)
def ask_to_sign_in(error: InteractionRequiredError) -> ResponseReturnValue:
    """Has the user sign in (again), and keeps what Entra has wanted of them, if anything."""
    session["claims"] = error.claims
    return redirect(url_for("sign_in"))


@app.get("/sign-in")
def sign_in() -> ResponseReturnValue:
    """Sends the browser to Entra."""
    back = url_for("signed_in", _external=True)
    flow = tokens.begin_auth_code(SCOPE, redirect_uri=back, claims=session.pop("claims", None))
    session["flow"] = flow.text
    return redirect(flow.auth_uri)


@app.get("/signed-in")
def signed_in() -> ResponseReturnValue:
    """Takes the browser back."""
    try:
        user = tokens.complete_auth_code(session.pop("flow", ""), request.args)
    except InteractionRequiredError as error:
        # An old page, say, or one that was loaded again. A redirect from here could go round.
        app.logger.warning("%s: %s", type(error).__name__, error)
        said = "This sign-in is over. Please begin another."
        return render_template_string(PAGE, title="That failed", said=said), 400
    session.clear()  # whoever was here before is not who comes now
    session["user"] = user.home_account_id
    return redirect(url_for("me"))


@app.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """Erases the user's session here, in every worker, and has Entra forget the browser."""
    try:
        address = signed_in_user().sign_out(url_for("me", _external=True))
    except InteractionRequiredError:
        address = url_for("me")  # nothing is kept of them
    session.clear()
    return redirect(address)


@app.errorhandler(ConsentRequiredError)
def say_that_consent_is_missing(_: ConsentRequiredError) -> ResponseReturnValue:
    """Tells the user that somebody has said no, perhaps they."""
    said = "You, or your administrator, have not let this app read your profile."
    return render_template_string(PAGE, title="Consent is missing", said=said), 403


@app.errorhandler(TokenManagerError)
@app.errorhandler(requests.RequestException)
def say_that_it_fails(error: Exception) -> ResponseReturnValue:
    """Tells the user of trouble that is none of their own, and the log what it is."""
    app.logger.error("%s: %s", type(error).__name__, error)
    return render_template_string(PAGE, title="That failed", said="Please try again later."), 503
