"""What the page of the authority is asked for, where a user signs in with a browser."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..._runtime.values import Value
from ...errors import ConfigurationError
from .sign_in import claims_of, hint

__all__ = ["AuthorizationRequest"]

_PROMPTS = ("login", "select_account", "consent", "none", "create")
_MODES = ("form_post", "query")
#: Seconds that a sign-in may be ago, where it is asked for: some thirty years.
_LONGEST_AGE = 1_000_000_000


class AuthorizationRequest(Value):
    """A request to the authority's page (RFC 6749, section 4.1.1), without what MSAL makes up.

    What its fields are is told at :class:`~tokenmgr.SignInOptions`.

    Raises:
        ConfigurationError: One of them cannot be right.
    """

    _hidden = frozenset({"login_hint"})

    redirect_uri: str
    response_mode: str | None = None
    prompt: str | None = None
    login_hint: str | None = None
    domain_hint: str | None = None
    max_age: int | None = None
    claims: str | None = None

    def _check(self) -> None:
        uri = hint("redirect_uri", self.redirect_uri)
        if uri is None or not uri.isprintable() or not urlsplit(uri).scheme:
            raise ConfigurationError(
                "redirect_uri= is the address that the user comes back to, as the app's "
                "registration has it, such as https://app.contoso.com/signed-in"
            )
        _check_one_of("prompt", self.prompt, _PROMPTS)
        _check_one_of("response_mode", self.response_mode, _MODES)
        hint("login_hint", self.login_hint)
        hint("domain_hint", self.domain_hint)
        claims_of(self.claims)
        age: object = self.max_age
        whole = isinstance(age, int) and not isinstance(age, bool) and 0 <= age <= _LONGEST_AGE
        if age is not None and not whole:
            raise ConfigurationError(
                f"max_age= is a whole number of seconds, 0 to {_LONGEST_AGE:,}"
            )

    def of_msal(self) -> dict[str, Any]:
        """Gives what MSAL's authorization code flow is begun with."""
        return {
            "redirect_uri": self.redirect_uri,
            # MSAL warns of every other mode. A browser that comes back by a form, from another
            # site, brings no cookie that is SameSite=Lax: so it is for the program to choose, and
            # is put into the address afterwards.
            "response_mode": "form_post",
            "prompt": self.prompt,
            "login_hint": self.login_hint or None,
            "domain_hint": self.domain_hint or None,
            "max_age": self.max_age,
            "claims_challenge": self.claims or None,
        }


def _check_one_of(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise ConfigurationError(f"{name}= is one of {', '.join(allowed)}")
