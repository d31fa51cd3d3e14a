"""An API (Flask) that calls Microsoft Graph for its callers, through the AgentID sidecar.

The app has no credential and asks Entra for nothing: the sidecar next to it does, as a container of
the same pod. Its callers send an access token for the app that the sidecar runs as, which has a
downstream API by the name of ``Graph``. See README.md next to it.

    pip install tokenmgr flask gunicorn
    export SIDECAR_URL=http://localhost:5000
    gunicorn --chdir examples --bind localhost:8000 sidecar_flask:app
"""

from __future__ import annotations

import atexit
from typing import Any

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue

from tokenmgr import (
    BearerRefusedError,
    ConsentRequiredError,
    InteractionRequiredError,
    TokenManagerError,
)
from tokenmgr.sidecar import SidecarClient

app = Flask(__name__)
# For the whole program: its threads share the connections, and so do workers that are forked of it.
sidecar = SidecarClient()
atexit.register(sidecar.close)


def graph(path: str, method: str = "GET", body: object = None, **query: str) -> Any:
    """Has the sidecar call Graph for whoever calls here; gives what it says."""
    answer = sidecar.call_downstream_api(
        request.headers.get("Authorization"), "Graph", path, method, body, extra_query=query
    )
    if not answer.ok:
        app.logger.error("Graph answered HTTP %s", answer.status)
        abort(502)
    return answer.json() if answer.text else None


@app.get("/api/profile")
def profile() -> ResponseReturnValue:
    """Says who calls."""
    return graph("me")


@app.get("/api/messages")
def messages() -> ResponseReturnValue:
    """Shows the caller's last messages."""
    return graph("me/messages", **{"$top": "10", "$select": "subject,from,receivedDateTime"})


@app.post("/api/messages/send")
def send() -> ResponseReturnValue:
    """Sends a message as the caller."""
    said = request.get_json()
    try:
        to, subject, text = str(said["to"]), str(said["subject"]), str(said["body"])
    except (KeyError, TypeError):
        abort(400, "a message has to, subject and body")
    message = {
        "subject": subject,
        "body": {"contentType": "Text", "content": text},
        "toRecipients": [{"emailAddress": {"address": to}}],
    }
    graph("me/sendMail", "POST", {"message": message})
    return {"status": "sent"}, 202


@app.errorhandler(BearerRefusedError)
def refuse(error: BearerRefusedError) -> ResponseReturnValue:
    """Tells a caller without a token that is accepted what is missing (RFC 6750, section 3)."""
    challenge = "Bearer" if error.error is None else f'Bearer error="{error.error}"'
    return {"error": str(error)}, error.status, {"WWW-Authenticate": challenge}


@app.errorhandler(InteractionRequiredError)
def ask_for_another(_: InteractionRequiredError) -> ResponseReturnValue:
    """Has the caller sign its user in again."""
    challenge = 'Bearer error="invalid_token"'
    return {"error": "sign in again"}, 401, {"WWW-Authenticate": challenge}


@app.errorhandler(ConsentRequiredError)
def say_that_consent_is_missing(_: ConsentRequiredError) -> ResponseReturnValue:
    """Tells the caller what no sign-in of its user's mends."""
    return {"error": "consent is missing"}, 403


@app.errorhandler(TokenManagerError)
def say_when_to_come_back(error: TokenManagerError) -> ResponseReturnValue:
    """Tells the caller of trouble that is none of its own, and the log what it is."""
    app.logger.error("%s: %s", type(error).__name__, error)
    headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
    return {"error": "Graph cannot be called"}, 503 if error.retryable else 500, headers
