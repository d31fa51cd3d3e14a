"""What a Django project's settings say of its API: what is made of them, and their checks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.signals import setting_changed

from ..errors import TokenManagerError
from ..registry import TokenRegistry, client_of
from ._api import Api
from ._settings import api_of, problems_of

__all__ = ["MIDDLEWARE", "api"]

MIDDLEWARE = "tokenmgr.web.django.middleware"
_CSRF = "django.middleware.csrf.CsrfViewMiddleware"
_PLACE = "settings.TOKENMGR"

#: The Api of this process, by itself. Making one makes nothing else, so where two threads do, one
#: of them is dropped.
_apis: dict[str, Api] = {}


def api() -> Api:
    """Gives the Api of the settings.

    Raises:
        ConfigurationError: A setting is none, or cannot be right.
    """
    found = _apis.get(_PLACE)
    if found is None:
        made = api_of(getattr(settings, "TOKENMGR", None), _PLACE)
        found = _apis.setdefault(_PLACE, made)
    return found


def _start_anew(*, setting: str, **_: Any) -> None:
    """Lets go of what was made of other settings, as tests override them."""
    if setting == "TOKENMGR":
        before = _apis.pop(_PLACE, None)
        if before is not None:
            before.close()


setting_changed.connect(_start_anew)


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Says what is wrong with ``settings.TOKENMGR``, and what its registry lacks."""
    given = getattr(settings, "TOKENMGR", None)
    found: list[checks.CheckMessage] = [
        checks.Error(f"{message}.", f"{hint[0].upper()}{hint[1:]}.", id=f"tokenmgr.E{number:03}")
        for number, message, hint in problems_of(given, _PLACE)
    ]
    if found:
        return found
    try:
        api().open()
    except TokenManagerError as error:
        return [_untold(error, bool((given or {}).get("registry")) or _environment_will_do())]
    return []


def _environment_will_do() -> bool:
    """Whether the environment names an app: what is wrong is in the settings then."""
    try:
        with TokenRegistry.from_env() as found:
            client, _ = client_of(found)
    except TokenManagerError:
        return False
    return client.given_by is None  # a credential that gives tokens by itself names none


def _untold(error: TokenManagerError, is_of_settings: bool) -> checks.CheckMessage:
    if is_of_settings:
        hint = f"See {_PLACE}['registry'] and what stands beside it."
        return checks.Error(f"Bearers cannot be validated: {error}.", hint, id="tokenmgr.E004")
    hint = f"Set it where the API runs, or name a registry in {_PLACE}['registry']."
    return checks.Warning(
        f"The environment does not say enough: {error}.", hint, id="tokenmgr.W001"
    )


def check_middleware(**_: Any) -> list[checks.CheckMessage]:
    """Says when the middleware comes too late to tell callers that they need a bearer."""
    names = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in names or _CSRF not in names[: names.index(MIDDLEWARE)]:
        return []
    return [
        checks.Warning(
            f"{MIDDLEWARE} comes after CsrfViewMiddleware, which answers a POST without a bearer "
            "with 403 before it can be told that it needs one.",
            "Put it first.",
            id="tokenmgr.W002",
        )
    ]


for _check in (check_settings, check_middleware):
    checks.register(_check, "tokenmgr")
