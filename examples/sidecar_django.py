"""An API (Django) that calls Microsoft Graph for its callers, through the AgentID sidecar.

The app has no credential and asks Entra for nothing: the sidecar next to it does, as a container of
the same pod. Its callers send an access token for the app that the sidecar runs as, which has a
downstream API by the name of ``Graph``. In a project of several files, these are its settings, its
middleware, its views and its URLs. See README.md next to it.

    pip install tokenmgr django gunicorn
    export SIDECAR_URL=http://localhost:5000
    gunicorn --chdir examples --bind localhost:8000 sidecar_django:application
"""

from __future__ import annotations

import atexit
import json
import logging
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from tokenmgr import (
    BearerRefusedError,
    ConsentRequiredError,
    InteractionRequiredError,
    TokenManagerError,
)
from tokenmgr.sidecar import SidecarClient

# No cookies, and so neither sessions nor CSRF: who calls is in the Authorization header alone.
settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        f"{__name__}.ErrorsMiddleware",
    ],
)

log = logging.getLogger("django.request")
# For the whole program: its threads share the connections, and so do workers that are forked of it.
sidecar = SidecarClient()
atexit.register(sidecar.close)


class ErrorsMiddleware:
    """Makes answers of errors."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: WSGIRequest) -> HttpResponse:
        """Answers a request, whatever becomes of it."""
        response: HttpResponse = self._get_response(request)
        return response

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        """Tells the caller what it can mend, and the log the rest."""
        if isinstance(error, BearerRefusedError):  # RFC 6750, section 3
            challenge = "Bearer" if error.error is None else f'Bearer error="{error.error}"'
            return _refusal(error.status, str(error), {"WWW-Authenticate": challenge})
        if isinstance(error, InteractionRequiredError):
            challenge = 'Bearer error="invalid_token"'
            return _refusal(401, "sign in again", {"WWW-Authenticate": challenge})
        if isinstance(error, ConsentRequiredError):
            return _refusal(403, "consent is missing")
        if not isinstance(error, TokenManagerError):
            return None
        log.error("%s: %s", type(error).__name__, error)
        headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
        return _refusal(503 if error.retryable else 500, "Graph cannot be called", headers)


def _refusal(status: int, error: str, headers: dict[str, str] | None = None) -> HttpResponse:
    return JsonResponse({"error": error}, status=status, headers=headers)


def graph(
    request: HttpRequest, to: str, method: str = "GET", body: object = None, **query: str
) -> HttpResponse:
    """Has the sidecar call Graph for whoever calls here; passes on what it says."""
    answer = sidecar.call_downstream_api(
        request.headers.get("Authorization"), "Graph", to, method, body, extra_query=query
    )
    if not answer.ok:
        log.error("Graph answered HTTP %s", answer.status)
        return _refusal(502, "Graph has refused the call")
    return JsonResponse(answer.json() if answer.text else None, safe=False)


@require_GET
def profile(request: HttpRequest) -> HttpResponse:
    """Says who calls."""
    return graph(request, "me")


@require_GET
def messages(request: HttpRequest) -> HttpResponse:
    """Shows the caller's last messages."""
    shown = {"$top": "10", "$select": "subject,from,receivedDateTime"}
    return graph(request, "me/messages", **shown)


@require_POST
def send(request: HttpRequest) -> HttpResponse:
    """Sends a message as the caller."""
    try:
        said = json.loads(request.body)
        to, subject, text = str(said["to"]), str(said["subject"]), str(said["body"])
    except (ValueError, KeyError, TypeError):
        return _refusal(400, "a message has to, subject and body")
    message = {
        "subject": subject,
        "body": {"contentType": "Text", "content": text},
        "toRecipients": [{"emailAddress": {"address": to}}],
    }
    answer = graph(request, "me/sendMail", "POST", {"message": message})
    return JsonResponse({"status": "sent"}, status=202) if answer.status_code == 200 else answer


urlpatterns = [
    path("api/profile", profile),
    path("api/messages", messages),
    path("api/messages/send", send),
]

application = get_wsgi_application()
