"""What an app says of itself, and adds to its token requests: checked once, when it is made."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from typing import Any, cast

from .._runtime.secrecy import Hidden, is_unicode
from .._runtime.values import Value
from ..errors import ConfigurationError
from ..identity.authority import Authority
from ..identity.credentials import (
    ClientAssertion,
    ClientCredential,
    ClientSecret,
    WorkloadIdentity,
)
from .wire.regions import RegionChoice, chosen_region

__all__ = ["Extra", "Particulars", "checked_claims", "checked_extra", "particulars_of"]

#: Parameters that the body of a token request has besides, sorted by their names.
Extra = tuple[tuple[str, str], ...]

#: So many parameters may be added, each of so many characters, so that a request stays one.
_MOST_EXTRA, _LONGEST_NAME, _LONGEST_VALUE = 32, 64, 4_096
#: Characters of claims as JSON, and of what the app is called.
_LONGEST_CLAIMS, _LONGEST_WORD = 8_192, 64
#: What a parameter's name is made of.
_OF_NAMES = frozenset(string.ascii_letters + string.digits + "._~:-")
#: What OAuth, OpenID Connect and the grants of Microsoft Entra send by themselves.
_OF_GRANTS = frozenset(
    {
        *("grant_type", "scope", "claims", "client_info", "state", "nonce", "response_type"),
        *("client_id", "client_secret", "client_assertion", "client_assertion_type"),
        *("assertion", "requested_token_use", "refresh_token", "device_code"),
        *("code", "code_verifier", "code_challenge", "code_challenge_method", "redirect_uri"),
        *("username", "password", "user_id", "user_federated_identity_credential"),
        "fmi_path",
        *("token_type", "key_id", "req_cnf"),
    }
)
#: What an assertion says anew each time that it is signed.
_OF_ASSERTIONS = frozenset({"exp", "nbf", "iat", "jti"})
#: What may be left out of what MSAL asks for by itself.
_EXCLUDABLE = frozenset({"offline_access", "profile"})


class Particulars(Value):
    """What an app says of itself, and adds to its token requests."""

    _hidden = frozenset({"client_claims", "forwarded_claims", "extra"})

    #: Where its own tokens are asked for.
    region: RegionChoice = None
    #: Claims that are signed into the assertion of its certificate, as JSON; empty when none.
    client_claims: str = ""
    #: Claims that it asks for with each token, as JSON; empty when none.
    forwarded_claims: str = ""
    #: What Microsoft's telemetry calls it.
    app_name: str | None = None
    app_version: str | None = None
    #: The scopes that MSAL does not ask for by itself.
    exclude_scopes: tuple[str, ...] = ()
    extra: Extra = ()

    def of_msal(self) -> dict[str, Any]:
        """What an application of MSAL is made with."""
        import json

        return {
            "client_claims": json.loads(self.client_claims) if self.client_claims else None,
            "app_name": self.app_name,
            "app_version": self.app_version,
            "exclude_scopes": list(self.exclude_scopes),
            # MSAL would read the environment, ask for its region, and warn of it at each fetch.
            "azure_region": False,
        }


def particulars_of(authority: Authority, credential: object, given: Hidden) -> Particulars:
    """Checks what a program has said, by the names that :class:`~tokenmgr.TokenRegistry` has.

    Args:
        authority: Whom the app asks.
        credential: What proves who it is.
        given: A dict of what was said.

    Raises:
        ConfigurationError: One of them cannot be right.
    """
    named = given.cell_contents.get
    return Particulars(
        region=chosen_region(authority, named("azure_region")),
        client_claims=_client_claims(Hidden(named("client_claims")), credential),
        forwarded_claims=checked_claims(Hidden(named("forwarded_client_claims"))),
        app_name=_word(named("app_name"), "app_name"),
        app_version=_word(named("app_version"), "app_version"),
        exclude_scopes=_excluded(named("exclude_scopes")),
        extra=checked_extra(Hidden(named("extra"))),
    )


def checked_extra(given: Hidden) -> Extra:
    """Gives parameters in the one form that keys are made of.

    Args:
        given: What ``extra=`` says: None, or a mapping.

    Raises:
        ConfigurationError: They are no texts, too long, too many, or what OAuth itself sends.
    """
    if given.cell_contents is None:
        return ()
    if not isinstance(given.cell_contents, Mapping):
        raise ConfigurationError('extra= is a dict of texts, such as {"resource": "api://orders"}')
    if len(given.cell_contents) > _MOST_EXTRA:
        raise ConfigurationError(f"extra= has more than {_MOST_EXTRA} parameters: leave some out")
    for name in given.cell_contents:
        _check_parameter(name, Hidden(given.cell_contents[name]))
    return tuple(sorted(given.cell_contents.items()))


def _check_parameter(name: object, value: Hidden) -> None:
    named = isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and _OF_NAMES.issuperset(name)
    if not named or not isinstance(name, str):
        raise ConfigurationError(
            f"a name in extra= is no parameter's: it has up to {_LONGEST_NAME} letters, digits and "
            "'.', '_', '~', ':' or '-'"
        )
    if name.lower() in _OF_GRANTS:
        raise ConfigurationError(
            f"extra= has {name!r}, which the request has by itself: leave it out, and say it where "
            "it belongs (scopes in manager(), claims in forwarded_client_claims=)"
        )
    text = isinstance(value.cell_contents, str) and is_unicode(value.cell_contents)
    if not text or len(value.cell_contents) > _LONGEST_VALUE:
        raise ConfigurationError(
            f"the value of {name!r} in extra= is no text of up to {_LONGEST_VALUE} characters that "
            "UTF-8 can say: correct it"
        )


def checked_claims(given: Hidden, what: str = "forwarded_client_claims") -> str:
    """Gives claims as JSON in one form, whatever their order; empty where there are none.

    Args:
        given: A JSON object as text, a mapping that can be one, or None.
        what: What it is called.

    Raises:
        ConfigurationError: It is neither, or longer than 8,192 characters.
    """
    if given.cell_contents is None:
        return ""
    import json

    text = Hidden("")
    try:
        if isinstance(given.cell_contents, str):
            given = Hidden(json.loads(given.cell_contents))
        if isinstance(given.cell_contents, Mapping):
            text = Hidden(
                json.dumps(
                    dict(given.cell_contents),
                    sort_keys=True,
                    separators=(",", ":"),
                    allow_nan=False,
                )
            )
    except (TypeError, ValueError, RecursionError):
        pass  # which would show it
    if not 0 < len(text.cell_contents) <= _LONGEST_CLAIMS:
        raise ConfigurationError(
            f"{what}= is no JSON object of up to {_LONGEST_CLAIMS} characters: pass a dict, such "
            'as {"access_token": {"acrs": {"value": "c1"}}}'
        )
    return "" if text.cell_contents == "{}" else str(text.cell_contents)


def _client_claims(given: Hidden, credential: object) -> str:
    if given.cell_contents is None:
        return ""
    if not isinstance(given.cell_contents, Mapping):
        raise ConfigurationError(
            'client_claims= is a dict of claims, such as {"client_ip": "203.0.113.7"}'
        )
    taken = sorted(_OF_ASSERTIONS.intersection(given.cell_contents))
    if taken:
        raise ConfigurationError(
            f"client_claims= has {taken[0]!r}, which is another in each assertion: leave it out"
        )
    unsigned = (ClientSecret, ClientAssertion, WorkloadIdentity)
    if not isinstance(credential, ClientCredential) or isinstance(credential, unsigned):
        raise ConfigurationError(
            "client_claims= are signed with a certificate's key, and the credential is none: pass "
            "a Certificate, or put them into the assertion that your callable signs"
        )
    return checked_claims(given, "client_claims")


def _word(given: object, what: str) -> str | None:
    if given is None:
        return None
    plain = isinstance(given, str) and given.isascii() and given.isprintable()
    if not plain or not isinstance(given, str) or not 0 < len(given.strip()) <= _LONGEST_WORD:
        raise ConfigurationError(
            f"{what}= goes into a header: it has 1 to {_LONGEST_WORD} printable characters of ASCII"
        )
    return given.strip()


def _excluded(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    several = isinstance(given, Iterable) and not isinstance(given, str)
    scopes: Iterable[object] = cast("Iterable[object]", given) if several else [None]
    texts = [each if isinstance(each, str) else "" for each in scopes]
    if not _EXCLUDABLE.issuperset(texts):
        raise ConfigurationError(
            "exclude_scopes= is a list of 'offline_access' or 'profile', which are asked for by "
            "themselves; 'openid' cannot be left out, and what is not asked for need not be"
        )
    return tuple(sorted(set(texts)))
