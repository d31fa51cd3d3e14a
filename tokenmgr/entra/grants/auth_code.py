"""The authorization code grant with PKCE: a user signs in with a browser (RFC 6749, 4.1; RFC 7636).

See "Microsoft identity platform and OAuth 2.0 authorization code flow" on Microsoft Learn.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..._runtime.secrecy import Hidden, Unpicklable, is_unicode
from ..._session import SignedIn
from ...errors import ConfigurationError, InteractionRequiredError, TokenRequestError
from ...token import RESERVED_SCOPES
from ..answers import Answer, error_from_answer
from ..client import Client
from ..id_token import is_issuer
from .sign_in import claims_of, hint, sign_in

if TYPE_CHECKING:
    import msal

__all__ = [
    "FLOW_LIFETIME",
    "Arrived",
    "begin",
    "complete",
    "not_the_answer",
    "redeem",
    "request_url",
]

#: Seconds within which a sign-in that was begun has to be completed.
FLOW_LIFETIME = 600.0

_PROMPTS = ("login", "select_account", "consent", "none", "create")
_MODES = ("form_post", "query")
#: The longest parameter that the service sends a browser back with, in characters.
_LONGEST = 16_384
#: Seconds that a sign-in may be ago, where it is asked for: some thirty years.
_LONGEST_AGE = 1_000_000_000
#: What an app tells that runs its own redirect, which has no PKCE of ours.
_OF_PKCE = ("code_challenge", "code_challenge_method")


def begin(client: Client, scopes: tuple[str, ...], redirect_uri: str, **asked: Any) -> Hidden:
    """Begins a sign-in.

    Args:
        client: The app, at its authority.
        scopes: What the first access token is for.
        redirect_uri: Where the user comes back to.
        **asked: ``prompt``, ``login_hint``, ``domain_hint``, ``max_age``, ``response_mode``,
            ``claims`` and ``state``, each None where it is left out; ``login_hint`` is hidden.

    Returns:
        The flow, a dict: what MSAL keeps of it, ``auth_uri`` among that, the ``nonce_sent``, and
        the ``issuer`` that has been asked.

    Raises:
        ConfigurationError: An argument cannot be right.
        TokenManagerError: The authority's metadata cannot be had.
    """
    given = _checked(redirect_uri, asked)

    def initiate(application: msal.ClientApplication) -> Any:
        # MSAL warns of every other mode. A browser that comes back by a form, from another site,
        # brings no cookie that is SameSite=Lax, and so it is for the program to choose.
        own = Hidden(given.cell_contents | {"response_mode": "form_post"})
        return application.initiate_auth_code_flow(list(scopes), **own.cell_contents)

    issuers: list[str] = []
    flow = client.prepare(initiate, hear=issuers.append)
    flow.cell_contents["issuer"] = issuers[0]
    flow.cell_contents["nonce_sent"] = _parameters(flow).get("nonce", "")
    _set(flow, response_mode=given.cell_contents["response_mode"])
    return flow


def request_url(
    client: Client,
    scopes: tuple[str, ...],
    redirect_uri: str,
    *,
    state: str | None,
    nonce: str | None,
    **asked: Any,
) -> str:
    """Gives the address of the authority's page, for an app that runs its own redirect.

    Args:
        client: As for :func:`begin`.
        scopes: As there.
        redirect_uri: As there.
        state: What comes back with the user.
        nonce: What the id token is to repeat.
        **asked: As there.

    Raises:
        TokenManagerError: As there.
    """
    flow = begin(client, scopes, redirect_uri, **asked)
    own = {"state": hint("state", state), "nonce": hint("nonce", nonce)}
    _set(flow, **dict.fromkeys(_OF_PKCE), **own)
    return str(flow.cell_contents["auth_uri"])


class Arrived(Unpicklable):
    """What the service has sent a user's browser back with.

    Args:
        query: The parameters of the redirect: a dict of texts or of lists of them, or what a
            framework has in its place.

    Raises:
        ConfigurationError: It is no mapping.
        TokenRequestError: A parameter comes twice, or is longer than any.
    """

    def __init__(self, query: Hidden) -> None:
        if not isinstance(query.cell_contents, Mapping) and not hasattr(query.cell_contents, "get"):
            raise ConfigurationError(
                "query is a mapping of what the redirect brought, such as request.args or "
                "request.query_params; of a form_post, request.form"
            )
        self._code = Hidden(_one(query, "code"))
        self._state = Hidden(_one(query, "state"))
        self._issuer = _one(query, "iss")
        names = ("error", "error_description", "suberror", "error_uri", "claims")
        self._refused = Answer({name: _one(query, name) for name in names})

    def is_of(self, flow: Hidden) -> bool:
        """Whether it is the answer to this sign-in. It takes as long whatever the state is."""
        state = Hidden(str(flow.cell_contents["state"]).encode())
        return hmac.compare_digest(self._state.cell_contents.encode(), state.cell_contents)

    def code(self, flow: Hidden, host: str) -> Hidden:
        """Gives the code.

        Args:
            flow: The sign-in that it is the answer to.
            host: Who has answered, for the message.

        Raises:
            InteractionRequiredError: It is another issuer who has answered, and whose code it is
                (RFC 9207): the one who was asked is not to have it.
            ConsentRequiredError: The user, or an administrator, has refused.
            TokenManagerError: The service has, or there is no code.
        """
        if self._issuer and not is_issuer(self._issuer, flow.cell_contents["issuer"]):
            raise not_the_answer()
        if self._refused.get("error"):
            raise error_from_answer(self._refused, host=host)
        if not self._code.cell_contents:
            raise TokenRequestError(
                "the redirect brought neither a code nor an error: pass all of its parameters, "
                "those of the form where response_mode= is form_post"
            )
        return self._code


def complete(client: Client, flow: Hidden, code: Hidden, scopes: tuple[str, ...]) -> SignedIn:
    """Redeems the code of a sign-in that was begun here.

    Args:
        client: The app, at the same authority.
        flow: What :func:`begin` gave.
        code: The code.
        scopes: What the access token is for.

    Raises:
        InteractionRequiredError: The code is none any more, or the id token another sign-in's.
        TokenManagerError: There is nothing to be had.
    """

    def grant(application: msal.ClientApplication) -> Any:
        own = dict(flow.cell_contents)  # MSAL takes things out of it
        answer = {"state": own["state"], "code": code.cell_contents}
        return application.acquire_token_by_auth_code_flow(own, answer)

    return sign_in(
        client,
        grant,
        "authorization_code",
        scopes,
        nonce=flow.cell_contents["nonce_sent"],
        max_age=flow.cell_contents.get("max_age"),
        secret=code,
    )


def redeem(
    client: Client,
    code: Hidden,
    scopes: tuple[str, ...],
    *,
    redirect_uri: str,
    nonce: str | None,
    claims: str | None,
) -> SignedIn:
    """Redeems a code for an app that runs its own redirect.

    Args:
        client: The app, at its authority.
        code: The code.
        scopes: What the access token is for.
        redirect_uri: The one that the code was sent to.
        nonce: What the id token has to repeat; None for nothing.
        claims: Those that the sign-in was begun with.

    Raises:
        InteractionRequiredError: The code is none any more, or nothing repeats the nonce.
        TokenManagerError: There is nothing to be had.
    """
    text = isinstance(code.cell_contents, str) and is_unicode(code.cell_contents)
    if not text or not 0 < len(code.cell_contents) <= _LONGEST:
        raise TokenRequestError("the code is none: pass the one that the redirect brought")
    given = _checked(redirect_uri, {"claims": claims})
    flow = {
        "state": "its own",
        "redirect_uri": given.cell_contents["redirect_uri"],
        "scope": [*scopes, *RESERVED_SCOPES],
        "claims_challenge": given.cell_contents["claims_challenge"],
        # Its own redirect has no PKCE of ours, and the nonce is checked here.
        "code_verifier": "",
        "nonce": "",
    }

    def grant(application: msal.ClientApplication) -> Any:
        answer = {"state": flow["state"], "code": code.cell_contents}
        # MSAL's acquire_token_by_authorization_code() warns that it is deprecated.
        return application.acquire_token_by_auth_code_flow(
            dict(flow), answer, scopes=list(scopes) or None
        )

    expected = hint("nonce", nonce) or ""
    signed_in = sign_in(client, grant, "authorization_code", scopes, nonce=expected, secret=code)
    # Without PKCE the nonce is all that tells a code of this sign-in from one that was brought in:
    # of a page that was asked for no "openid" there comes no id token.
    if expected and not signed_in.account.claims.cell_contents:
        raise InteractionRequiredError(
            "the service gave no id token, so that nothing tells whether the code is that of the "
            "sign-in that was begun: begin another"
        )
    return signed_in


def _parameters(flow: Hidden) -> dict[str, str]:
    address = Hidden(urlsplit(flow.cell_contents["auth_uri"]))
    return dict(parse_qsl(address.cell_contents.query, keep_blank_values=True))


def _set(flow: Hidden, **parameters: str | None) -> None:
    """Sets parameters of the address that the user is sent to; takes those away that are None."""
    wanted = Hidden({**_parameters(flow), **parameters})
    for name in [name for name in wanted.cell_contents if wanted.cell_contents[name] is None]:
        del wanted.cell_contents[name]
    address = Hidden(urlsplit(flow.cell_contents["auth_uri"]))
    query = Hidden(urlencode(wanted.cell_contents))
    flow.cell_contents["auth_uri"] = urlunsplit(
        address.cell_contents._replace(query=query.cell_contents)
    )


def _checked(redirect_uri: str, asked: dict[str, Any]) -> Hidden:
    """What a sign-in is asked for, as MSAL takes it, a dict."""
    uri = hint("redirect_uri", redirect_uri)
    if uri is None or not uri.isprintable() or not urlsplit(uri).scheme:
        raise ConfigurationError(
            "redirect_uri= is the address that the user comes back to, as the app's registration "
            "has it, such as https://app.contoso.com/signed-in"
        )
    given = Hidden(
        {
            "redirect_uri": uri,
            "state": hint("state", asked.get("state")),
            "prompt": _one_of("prompt", asked.get("prompt"), _PROMPTS),
            "response_mode": _one_of("response_mode", asked.get("response_mode"), _MODES),
            "login_hint": hint("login_hint", asked.get("login_hint", Hidden(None)).cell_contents),
            "domain_hint": hint("domain_hint", asked.get("domain_hint")),
            "claims_challenge": claims_of(asked.get("claims")),
            "max_age": asked.get("max_age"),
        }
    )
    age: Any = asked.get("max_age")
    whole = isinstance(age, int) and not isinstance(age, bool)
    if age is not None and not (whole and 0 <= age <= _LONGEST_AGE):
        raise ConfigurationError(f"max_age= is a whole number of seconds, 0 to {_LONGEST_AGE:,}")
    return given


def _one_of(name: str, value: str | None, allowed: tuple[str, ...]) -> str | None:
    if value is not None and value not in allowed:
        raise ConfigurationError(f"{name}= is one of {', '.join(allowed)}")
    return value


def _one(query: Hidden, name: str) -> str:
    """Gives a parameter of a redirect; empty where there is none.

    Raises:
        TokenRequestError: It comes twice (RFC 6749, section 3.1), or is no text, or too long.
    """
    of_all = next((n for n in ("getlist", "getall") if hasattr(query.cell_contents, n)), None)
    if of_all == "getall":  # multidict's, which raises KeyError where there is none
        values = Hidden(query.cell_contents.getall(name, []))
    elif of_all is not None:
        values = Hidden(query.cell_contents.getlist(name))
    else:
        values = Hidden(query.cell_contents.get(name))
    if not isinstance(values.cell_contents, (list, tuple)):
        values = Hidden(["" if values.cell_contents is None else values.cell_contents])
    several = Hidden(values.cell_contents or [""])
    text = Hidden(several.cell_contents[0])
    whole = len(several.cell_contents) == 1 and isinstance(text.cell_contents, str)
    if not whole or len(text.cell_contents) > _LONGEST:
        raise TokenRequestError(
            f"the redirect brought no {name!r} that counts: it comes twice, or is longer than any; "
            "begin another sign-in"
        )
    return str(text.cell_contents.encode(errors="replace").decode())


def not_the_answer() -> InteractionRequiredError:
    """Says that what has arrived is the answer to another sign-in."""
    return InteractionRequiredError(
        "what came back is the answer to another sign-in (its state or issuer is another one), or "
        "was made up: nothing is kept of it; begin another sign-in"
    )
