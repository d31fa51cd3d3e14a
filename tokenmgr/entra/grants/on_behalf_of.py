"""The on-behalf-of grant: a token for a user of this API (RFC 7523, as Microsoft Entra has it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._runtime.secrecy import is_unicode
from ...errors import (
    ConfigurationError,
    ConsentRequiredError,
    InteractionRequiredError,
    InvalidScopeError,
    TokenManagerError,
    TokenRequestError,
)
from ...identity.assertions import UserAssertion
from ...identity.authority import neighbour
from ...identity.clouds import PERSONAL_TENANT
from ...identity.proofs import Proof
from ...token import RESERVED_SCOPES, AccessToken, TokenKey
from ..client import Client
from .base import ClientSource

if TYPE_CHECKING:
    import msal

__all__ = ["OnBehalfOfSource", "check_scopes", "home_of", "of_caller"]

#: The AADSTS number of a tenant that does not have the app.
_NO_APP = 700016
#: That of what is no JWT. Where it is the app's own proof, it is an InvalidCredentialError.
_NO_JWT = 50027


class OnBehalfOfSource(ClientSource):
    """A source of the tokens of one user, for some scopes.

    See "Microsoft identity platform and OAuth 2.0 On-Behalf-Of flow" on Microsoft Learn.

    Args:
        client: This API's app, at the user's tenant.
        assertion: The token that the user's call has brought.
        scopes: What the tokens are for.
        wanders: Whether it is the assertion that has named the tenant, and not the program.

    Raises:
        InvalidScopeError: A scope is none that may be asked for.
    """

    __slots__ = ("_assertion", "_wanders")

    def __init__(
        self,
        client: Client,
        assertion: UserAssertion,
        scopes: tuple[str, ...],
        *,
        wanders: bool = False,
    ) -> None:
        check_scopes(scopes)
        self._client = client
        self._assertion = assertion
        self._wanders = wanders
        subject = assertion.digest(client.authority.kind, client.client_id)
        self.key: TokenKey = client.key("on_behalf_of", scopes, subject)

    @property
    def ends_at(self) -> float:
        """When nothing more is to be had here, in seconds since 1970."""
        return self._assertion.expires_at

    def check(self) -> None:
        """Refuses to ask for what cannot be had any more.

        Raises:
            InteractionRequiredError: The assertion has expired.
        """
        self._assertion.check_time(self._client.wall())

    def fetch_token(self, *, claims: str | None = None, proof: Proof | None = None) -> AccessToken:
        """Fetches a token, that serves no longer than the assertion does.

        Args:
            claims: As for :class:`~tokenmgr.TokenSource`.
            proof: What :meth:`read_proof` has just given; it is read when it is left out.

        Raises:
            InteractionRequiredError: The assertion has expired, or the user has to sign in.
            ConsentRequiredError: Nobody has consented, or the user's tenant does not have the app.
            TokenManagerError: There is none to be had.
        """
        self.check()

        def grant(application: msal.ConfidentialClientApplication) -> dict[str, Any]:
            answer: dict[str, Any] = application.acquire_token_on_behalf_of(
                self._assertion.text(), list(self.key.scopes), claims_challenge=claims
            )
            return answer

        try:
            token = self._client.ask(grant, self.key._replace(claims=claims or ""), proof)
        except TokenManagerError as exc:
            told = of_caller(exc, wanders=self._wanders)
            if told is None:
                raise
            raise told from None
        if token.expires_at <= self.ends_at:
            return token
        # A new one would end at the same time, and so there is nothing to renew.
        return token._replace(expires_at=self.ends_at, refresh_at=self.ends_at)


def home_of(assertion: UserAssertion, client: Client) -> Client:
    """Gives the app at the user's own tenant: at another one it would get another's token.

    Args:
        assertion: The token that the user's call has brought.
        client: The app, at its authority.

    Raises:
        InteractionRequiredError: It does not say which, or is of an account of another kind.
    """
    authority, tenant = client.authority, assertion.tenant
    if not authority.is_multi_tenant_alias:
        return client
    if tenant is None:
        raise InteractionRequiredError(
            "the user's token does not say which tenant it is from, and the authority "
            f"{authority.tenant!r} stands for many: answer the caller with 401, or set the "
            "tenant in the authority"
        )
    if authority.tenant == ("organizations" if tenant == PERSONAL_TENANT else "consumers"):
        raise InteractionRequiredError(
            f"the user's account is of a kind that {authority.tenant!r} does not take: have "
            "them sign in with another account, or set the authority to 'common'"
        )
    return client.at(neighbour(authority, tenant))


def check_scopes(scopes: tuple[str, ...]) -> None:
    """Refuses scopes that cannot be asked for on behalf of a user.

    Raises:
        InvalidScopeError: One is none.
    """
    if not all(map(is_unicode, scopes)):
        raise InvalidScopeError("a scope has characters that UTF-8 cannot say: correct it")
    if RESERVED_SCOPES.intersection(scopes):
        raise InvalidScopeError(
            "openid, profile and offline_access are asked for by themselves: leave them out"
        )


def of_caller(error: TokenManagerError, *, wanders: bool) -> TokenManagerError | None:
    """Says of the caller what would else be said of the program; None where that is right.

    Args:
        error: What came of asking.
        wanders: Whether it is the assertion that has named the tenant.
    """
    kind: type[TokenManagerError] = InteractionRequiredError
    if type(error) is TokenRequestError and _NO_JWT in error.error_codes:
        says = "answer the caller with 401, as the service cannot read the user's token"
    elif wanders and isinstance(error, ConfigurationError) and error.error is not None:
        kind = ConsentRequiredError if _NO_APP in error.error_codes else kind
        says = "at the tenant that the user's token names"
    else:
        return None
    told = kind(f"{says}: {error}")
    told.__dict__.update(error.__dict__)
    return told
