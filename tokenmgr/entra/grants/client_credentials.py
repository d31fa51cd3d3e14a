"""The client credentials grant: a token for the app itself (RFC 6749, section 4.4)."""

from __future__ import annotations

from operator import methodcaller

from ..._runtime.secrecy import is_unicode
from ...errors import ConfigurationError, InvalidScopeError
from ...identity.proofs import Proof
from ...token import AccessToken, TokenKey
from ..client import Client
from ..particulars import Extra
from .base import ClientSource

__all__ = ["ClientCredentialsSource"]

#: Characters of a path of federated managed identities.
_LONGEST_PATH = 1_024


class ClientCredentialsSource(ClientSource):
    """A source of the app's own tokens for one scope.

    See "Microsoft identity platform and the OAuth 2.0 client credentials flow" on Microsoft
    Learn.

    Args:
        client: The app, at its authority.
        scopes: What the tokens are for: ``{resource}/.default``, one.
        cae: Whether the app says that it answers claims challenges; this, and what follows, as the
            client has it when left out.
        forwarded_claims: The claims that it asks for with each token, as JSON.
        extra: Parameters that the request has besides.
        fmi_path: Whom else the tokens are to prove, such as an agent identity (federated managed
            identity); they are exchanged for that one's.

    Raises:
        InvalidScopeError: The scope is not of that form, or no text, or there are several.
        ConfigurationError: The app has no credential, the authority stands for many tenants, or
            the path is none.
    """

    def __init__(
        self,
        client: Client,
        scopes: tuple[str, ...],
        *,
        cae: bool | None = None,
        forwarded_claims: str | None = None,
        extra: Extra | None = None,
        fmi_path: str | None = None,
    ) -> None:
        client.check_credential("an app's own token, by manager(),")
        authority = client.authority
        if authority.is_multi_tenant_alias:
            raise ConfigurationError(
                f"an app's own token comes from one tenant, and {authority.tenant!r} stands for "
                "many: set the tenant's id or domain name in the authority"
            )
        if not all(map(is_unicode, scopes)):
            raise InvalidScopeError("the scope has characters that UTF-8 cannot say: correct it")
        # Generic providers and AD FS have scopes of their own making.
        if authority.kind in ("entra", "b2c", "ciam"):
            _check(scopes)
        self._client = client
        self._scopes = scopes
        self._fmi_path = fmi_path
        self.key: TokenKey = client.key(
            "client_credentials",
            scopes,
            "" if fmi_path is None else f"fmi_path {_checked_path(fmi_path)}",
            cae=cae,
            forwarded_claims=forwarded_claims,
            extra=extra,
        )

    def close(self) -> None:
        """Closes the way to the service; for a manager that has it to itself."""
        self._client.close()

    def fetch_token(self, *, claims: str | None = None, proof: Proof | None = None) -> AccessToken:
        """Fetches a token; see :class:`~tokenmgr.TokenSource`.

        Args:
            claims: As there.
            proof: What :meth:`read_proof` has just given; it is read when it is left out.
        """
        grant = methodcaller(
            "acquire_token_for_client",
            list(self._scopes),
            claims_challenge=claims,
            fmi_path=self._fmi_path,
        )
        return self._client.ask(grant, self.key._replace(claims=claims or ""), proof)


def _checked_path(path: str) -> str:
    named = isinstance(path, str) and path.isascii() and path.isprintable()
    if not named or not 0 < len(path) <= _LONGEST_PATH or " " in path:
        raise ConfigurationError(
            f"fmi_path= is a text of up to {_LONGEST_PATH} printable characters of ASCII, such as "
            "an agent's id"
        )
    return path


def _check(scopes: tuple[str, ...]) -> None:
    if len(scopes) > 1:
        raise InvalidScopeError(
            f"client credentials take one scope at a time, and {len(scopes)} were given: ask for "
            "a manager of each"
        )
    scope = scopes[0]
    if not scope.endswith("/.default") or scope == "/.default":
        raise InvalidScopeError(
            f"{scope!r} is no scope for client credentials: they take {{resource}}/.default, such "
            "as 'https://graph.microsoft.com/.default'. A user's token is given by their session, "
            "by user.manager()"
        )
