"""A web API (Django, in one file) that calls Microsoft Graph on behalf of whoever calls it.

Its callers send an access token for this API, with the scope ``access_as_user``. It is validated,
and exchanged for one of the same user's for Graph, once for all calls, and not again until it ends.
It finds its app in the environment, as the other examples do. See README.md next to it.

    pip install 'tokenmgr[django]' gunicorn requests
    gunicorn --chdir examples --preload --workers 2 --threads 8 on_behalf_of_django:application

What stands in ``settings.configure()`` here stands in the settings of a project otherwise.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any
from urllib.parse import urlsplit

import django
import requests
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from tokenmgr.http.requests import BearerAuth
from tokenmgr.web.django import caller, on_behalf_of, ready, required

GRAPH = os.environ.get("GRAPH_URL", "https://graph.microsoft.com/v1.0")

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    INSTALLED_APPS=["tokenmgr.web.django"],  # its checks
    # Every view needs a bearer. With TOKENMGR_STORE workers share the users' tokens.
    MIDDLEWARE=["tokenmgr.web.django.middleware", f"{__name__}.GraphFailures"],
)
django.setup()


def call_graph(scope: str, method: str, route: str, json: object = None) -> Any:
    """Calls Microsoft Graph as the user of the call that is under way, with one of its scopes.

    What Entra has against it, tokenmgr tells whoever has called.
    """
    user = on_behalf_of(f"https://graph.microsoft.com/{scope}")
    auth = BearerAuth(user, hosts=[urlsplit(GRAPH).netloc])
    answer = requests.request(method, f"{GRAPH}{route}", json=json, auth=auth, timeout=10)
    answer.raise_for_status()
    return answer.json() if answer.content else None


@require_GET
@required("access_as_user")
def profile(_: HttpRequest) -> HttpResponse:
    """Says who the caller is, to this API and to Graph."""
    me = call_graph("User.Read", "GET", "/me")
    return JsonResponse({"id": caller().object_id, "graph": me})


@require_GET
@required("access_as_user")
def messages(_: HttpRequest) -> HttpResponse:
    """Gives the caller's messages."""
    newest = "/me/messages?$top=10&$select=subject,from"
    return JsonResponse(call_graph("Mail.Read", "GET", newest))


@require_POST
@required("access_as_user")
def send(request: HttpRequest) -> HttpResponse:
    """Sends a message as the caller: ``{"to": …, "subject": …, "body": …}``."""
    try:
        message = json.loads(request.body)
        to, subject, body = (str(message[name]) for name in ("to", "subject", "body"))
    except (KeyError, TypeError, ValueError):
        return JsonResponse({"detail": "a message has to, subject and body"}, status=400)
    mail = {
        "subject": subject,
        "body": {"contentType": "Text", "content": body},
        "toRecipients": [{"emailAddress": {"address": to}}],
    }
    call_graph("Mail.Send", "POST", "/me/sendMail", {"message": mail})
    return HttpResponse(status=202)


class GraphFailures:
    """Tells callers of trouble that is none of their own, and the log what it is."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        """Answers a request as ever."""
        return self._get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answers what ``requests`` has raised in a view."""
        if not isinstance(error, requests.RequestException):
            return None
        logging.getLogger(__name__).error("Microsoft Graph has not done it: %s", error)
        return JsonResponse({"detail": "Microsoft Graph has not done it"}, status=502)


urlpatterns = [
    path("profile", profile),
    path("messages", messages),
    path("send", send),
    path("ready", ready),
]
application = get_wsgi_application()
