"""A web API (Flask) that calls Microsoft Graph on behalf of whoever calls it: three routes.

Its callers send an access token for this API, with the scope ``access_as_user``. It is validated,
and exchanged for one of the same user's for Graph, once for all calls, and not again until it ends.
It finds its app in the environment, as the other examples do. See README.md next to it.

    pip install 'tokenmgr[flask]' gunicorn requests
    gunicorn --chdir examples --preload --workers 2 --threads 8 on_behalf_of_flask:app
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import requests
from flask import Flask, request
from flask.typing import ResponseReturnValue

from tokenmgr.http.requests import BearerAuth
from tokenmgr.web.flask import caller, init_app, on_behalf_of, ready, required

GRAPH = os.environ.get("GRAPH_URL", "https://graph.microsoft.com/v1.0")

app = Flask(__name__, static_folder=None)
# Every view needs a bearer from now on. With TOKENMGR_STORE its workers share the users' tokens.
init_app(app)
app.add_url_rule("/ready", view_func=ready)


def call_graph(scope: str, method: str, path: str, json: object = None) -> Any:
    """Calls Microsoft Graph as the user of the call that is under way, with one of its scopes.

    What Entra has against it, tokenmgr tells whoever has called.
    """
    user = on_behalf_of(f"https://graph.microsoft.com/{scope}")
    auth = BearerAuth(user, hosts=[urlsplit(GRAPH).netloc])
    answer = requests.request(method, f"{GRAPH}{path}", json=json, auth=auth, timeout=10)
    answer.raise_for_status()
    return answer.json() if answer.content else None


@app.get("/profile")
@required("access_as_user")
def profile() -> ResponseReturnValue:
    """Says who the caller is, to this API and to Graph."""
    return {"id": caller().object_id, "graph": call_graph("User.Read", "GET", "/me")}


@app.get("/messages")
@required("access_as_user")
def messages() -> ResponseReturnValue:
    """Gives the caller's messages."""
    newest = "/me/messages?$top=10&$select=subject,from"
    found: dict[str, Any] = call_graph("Mail.Read", "GET", newest)
    return found


@app.post("/send")
@required("access_as_user")
def send() -> ResponseReturnValue:
    """Sends a message as the caller: ``{"to": …, "subject": …, "body": …}``."""
    message = request.get_json()
    try:
        to, subject, body = (str(message[name]) for name in ("to", "subject", "body"))
    except (KeyError, TypeError):
        return {"detail": "a message has to, subject and body"}, 400
    mail = {
        "subject": subject,
        "body": {"contentType": "Text", "content": body},
        "toRecipients": [{"emailAddress": {"address": to}}],
    }
    call_graph("Mail.Send", "POST", "/me/sendMail", {"message": mail})
    return "", 202


@app.errorhandler(requests.RequestException)
def say_that_graph_fails(error: requests.RequestException) -> ResponseReturnValue:
    """Tells the caller of trouble that is none of its own, and the log what it is."""
    app.logger.error("Microsoft Graph has not done it: %s", error)
    return {"detail": "Microsoft Graph has not done it"}, 502
