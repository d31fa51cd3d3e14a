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
from .authorization_request import AuthorizationRequest
from .sign_in import hint, sign_in

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

#: The longest parameter that the service sends a browser back with, in characters.
_LONGEST = 16_384
#: Those of Microsoft that give an id token whenever "openid" is asked for, as it always is here.
_IDENTIFYING = frozenset({"entra", "b2c", "ciam"})
#: What an app tells that runs its own redirect, which has no PKCE of ours.
_OF_PKCE = ("code_challenge", "code_challenge_method")
#: What MSAL's flow has in place of PKCE and of a nonce of its own.
_NEITHER = {"state": "its own", "code_verifier": "", "nonce": ""}


def begin(client: Client, scopes: tuple[str, ...], request: AuthorizationRequest) -> Hidden:
    """Begins a sign-in.

    Args:
        client: The app, at its authority.
        scopes: What the first access token is for.
        request: What the authority's page is asked for.

    Returns:
        The flow, a dict: what MSAL keeps of it, ``auth_uri`` among that, the ``nonce_sent``, the
        ``issuer`` that has been asked, and whether its answer names it.

    Raises:
        TokenManagerError: The authority's metadata cannot be had.
    """

    def initiate(application: msal.ClientApplication) -> Any:
        return application.initiate_auth_code_flow(list(scopes), **request.of_msal())

    issuers: list[tuple[str, bool]] = []
    flow = client.prepare(initiate, hear=lambda *said: issuers.append(said))
    flow.cell_contents["issuer"], flow.cell_contents["names_issuer"] = issuers[0]
    sent = _parameters(flow)
    flow.cell_contents["nonce_sent"] = sent.get("nonce", "")
    _set(flow, response_mode=request.response_mode)
    return flow


def request_url(
    client: Client,
    scopes: tuple[str, ...],
    request: AuthorizationRequest,
    *,
    state: str | None,
    nonce: str | None,
) -> str:
    """Gives the address of the authority's page, for an app that runs its own redirect.

    Args:
        client: As for :func:`begin`.
        scopes: As there.
        request: As there.
        state: What comes back with the user.
        nonce: What the id token is to repeat.

    Raises:
        ConfigurationError: One of these cannot be right.
        TokenManagerError: As there.
    """
    flow = begin(client, scopes, request)
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

    @property
    def is_nothing(self) -> bool:
        """Whether it says of no sign-in that it is its answer."""
        return not self._state.cell_contents

    def code(self, flow: Hidden, host: str) -> Hidden:
        """Gives the code.

        Args:
            flow: The sign-in that it is the answer to.
            host: Who has answered, for the message.

        Raises:
            InteractionRequiredError: It is another issuer who has answered, and whose code it is
                (RFC 9207), or nobody says who, though the one who was asked always does: that one
                is not to have it.
            ConsentRequiredError: The user, or an administrator, has refused.
            TokenManagerError: The service has, or there is no code.
        """
        if not self._issuer and flow.cell_contents.get("names_issuer"):  # of an earlier version
            raise InteractionRequiredError(
                "what came back does not say whose answer it is, and this authority's do (iss, RFC "
                "9207): pass all parameters of the redirect; nothing is kept of it; begin another "
                "sign-in"
            )
        if self._issuer and not is_issuer(self._issuer, flow.cell_contents["issuer"]):
            raise not_the_answer(self)
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
        identified=client.authority.kind in _IDENTIFYING,
    )


def redeem(
    client: Client,
    code: Hidden,
    scopes: tuple[str, ...],
    request: AuthorizationRequest,
    *,
    nonce: str | None,
) -> SignedIn:
    """Redeems a code for an app that runs its own redirect.

    Args:
        client: The app, at its authority.
        code: The code.
        scopes: What the access token is for.
        request: Where the code was sent to, and the claims that the sign-in was begun with.
        nonce: What the id token has to repeat; None for nothing.

    Raises:
        InteractionRequiredError: The code is none any more, or nothing repeats the nonce.
        TokenManagerError: There is nothing to be had.
    """
    text = isinstance(code.cell_contents, str) and is_unicode(code.cell_contents)
    if not text or not 0 < len(code.cell_contents) <= _LONGEST:
        raise TokenRequestError("the code is none: pass the one that the redirect brought")
    # Its own redirect has no PKCE of ours, and the nonce is checked here.
    flow = {**request.of_msal(), **_NEITHER, "scope": [*scopes, *RESERVED_SCOPES]}

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


def _one(query: Hidden, name: str) -> str:
    """Gives a parameter of a redirect; empty where there is none.

    Raises:
        TokenRequestError: It comes twice (RFC 6749, section 3.1), or is no text, or too long.
    """
    of_all = next((n for n in ("getlist", "getall") if hasattr(query.cell_contents, n)), None)
    if of_all is not None and name in query.cell_contents:
        values = Hidden(getattr(query.cell_contents, of_all)(name))
    elif of_all is not None:  # some raise KeyError
        values = Hidden([])
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


def not_the_answer(arrived: Arrived) -> InteractionRequiredError:
    """Says that what has arrived is the answer to another sign-in, or none."""
    if arrived.is_nothing:
        return InteractionRequiredError(
            "what came back has no state, and answers no sign-in: pass all parameters of the "
            "redirect, those of the form where response_mode= is form_post; begin another sign-in"
        )
    return InteractionRequiredError(
        "what came back is the answer to another sign-in (its state or issuer is another one), or "
        "was made up: nothing is kept of it; begin another sign-in"
    )
