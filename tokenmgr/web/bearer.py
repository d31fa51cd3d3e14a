"""BearerValidator: whether a bearer that a caller has sent is one for this API, and whose it is.

Everything is decided by the configuration and by what the authority's own metadata says, and
nothing by the token's header: that names the key, one of the authority's, and no other place where
keys might be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from .._engine.flight import Flight
from .._runtime.secrecy import Hidden, Unpicklable
from .._runtime.stack import longest_wait
from ..errors import BearerRefusedError, ConfigurationError, ServiceUnavailableError
from ..identity.addresses import is_guid
from ..registry import TokenRegistry, client_of
from ._claims import app_of, is_app, names_in
from ._header import bearer_in
from ._issuers import Issuers
from ._jwt import Unreadable, VerifyingKey, key_name, unverified_claims, verified
from ._keys import Keys, Known
from ._refusals import named_refusal, refusal_of, unknown_key, wrong_issuer
from .caller import Caller, Claims

__all__ = ["BearerValidator", "Caller"]

#: Seconds that two clocks may differ by at most, lest a token live much longer than it says.
_MOST_LEEWAY = 300.0


class BearerValidator(Unpicklable):
    """Validates the bearers that callers send to one API (RFC 6750, RFC 8725).

    Making one asks nobody: the authority is asked for its keys with the first token. It is safe to
    share between threads and event loops, and goes over a fork.

    Example:
        >>> from tokenmgr import TokenRegistry
        >>> from tokenmgr.web.bearer import BearerValidator
        >>> registry = TokenRegistry(
        ...     client_id="11111111-2222-3333-4444-555555555555",
        ...     authority="https://login.microsoftonline.com/contoso.onmicrosoft.com",
        ... )
        >>> validator = BearerValidator(registry)

    Args:
        registry: Has the authority whose tokens are taken, the API's own client id, and the way
            there (``verify=``, ``proxies=``, ``timeout=``). An API that calls no other needs no
            credential in it.
        audience: For whom the tokens have to be, any one of these; left out, the client id and
            ``api://{client id}``.
        tenants: The GUIDs of the tenants whose callers are let in. Left out, those of the
            authority are. ``common`` and ``organizations`` stand for every tenant, and need it;
            ``"*"`` lets every one in on purpose.
        leeway: Seconds by which the authority's clock and this one may differ.
        apps_without_roles: Whether an app that calls by itself is let in although it was given no
            app role of this API. Any app of a tenant can have such a token for any API there.

    Raises:
        ConfigurationError: A setting is missing or cannot be right.
    """

    def __init__(
        self,
        registry: TokenRegistry,
        *,
        audience: str | Iterable[str] | None = None,
        tenants: Iterable[str] | None = None,
        leeway: float = 60.0,
        apps_without_roles: bool = False,
    ) -> None:
        if not isinstance(registry, TokenRegistry):
            raise ConfigurationError("the first argument of BearerValidator is a TokenRegistry")
        self._registry = registry
        client, context = client_of(registry)
        if client.given_by is not None:
            raise ConfigurationError(
                f"{client.given_by!r} gives the registry's tokens, and names no app whose API this "
                "could be: give the registry client_id= and authority=, or set AZURE_CLIENT_ID and "
                "AZURE_TENANT_ID"
            )
        self._audience = _checked_audience(audience, client.client_id)
        self._leeway = _checked_leeway(leeway)
        self._takes_any_app = apps_without_roles
        self._issuers = Issuers(client.authority, tenants)
        self._policy = client.authority.policy
        self._kind = client.authority.kind
        self._is_of_entra = self._kind in ("entra", "ciam")
        self._patience = context.fetch_timeout
        authority = self._issuers.authority
        self._keys = Keys(authority, client.at(authority).asking, context)

    def validate(self, authorization: Sequence[str] | str | None) -> Caller:
        """Says whose bearer it is, once it has passed every check.

        It waits where the authority's keys are not known yet, or no more, for as long as the
        registry's ``timeout=`` at most: from an event loop call :meth:`avalidate`.

        Args:
            authorization: The value of the ``Authorization`` header, or those of all of them, as
                more than one is refused; None where there is none.

        Raises:
            BearerRefusedError: There is none, or it is not accepted: ``status`` is 401 or 403.
            ServiceUnavailableError: No keys of the authority can be had: it cannot be told.
            AuthorityError: The authority has no metadata, or no keys, that could be used.
            ConfigurationError: The registry is closed.
        """
        authorization, given = None, Hidden(authorization)
        until, may_wait = time.monotonic() + self._patience, True
        while True:
            found = self._judge(given, may_wait=may_wait)
            if isinstance(found, Caller):
                return found
            may_wait = found.wait(min(until - time.monotonic(), longest_wait()))

    async def avalidate(self, authorization: Sequence[str] | str | None) -> Caller:
        """Does as :meth:`validate`, from any event loop, and never blocks it."""
        authorization, given = None, Hidden(authorization)
        until, may_wait = time.monotonic() + self._patience, True
        while True:
            found = self._judge(given, may_wait=may_wait)
            if isinstance(found, Caller):
                return found
            may_wait = await found.join(until - time.monotonic())

    def check(
        self, caller: Caller, *, scopes: Iterable[str] = (), roles: Iterable[str] = ()
    ) -> None:
        """Refuses a caller who may not do what it asks for.

        A user passes with any one of the scopes, which is what the app may do for the user. Where
        no scopes are given but roles, a user needs one of these. An app that calls by itself has
        no scopes: it passes with any one of the roles, and where scopes alone are given, not at
        all. Where neither is given, everybody passes: so does any app of the tenant, which can have
        a token for this API without a role in it. See "Verify scopes and app roles in protected web
        API" on Microsoft Learn.

        Args:
            caller: Who calls.
            scopes: Delegated permissions, as the token has them in ``scp``, such as
                ``"Orders.Read"``.
            roles: App roles, such as ``"Orders.Read.All"``.

        Raises:
            BearerRefusedError: ``status`` is 403, ``error`` is ``insufficient_scope``.
        """
        needed, wanted = _texts(scopes, "scopes"), _texts(roles, "roles")
        if not needed and not wanted:
            return
        by_roles = caller.is_app or not needed
        if (caller.roles & wanted) if by_roles else (caller.scopes & needed):
            return
        raise _lacking(needed, wanted, by_roles=by_roles, is_app=caller.is_app)

    def _judge(self, given: Hidden, *, may_wait: bool) -> Caller | Flight[None]:
        """Says whose bearer it is, or what is to be waited for before that can be said."""
        token = bearer_in(given)
        try:
            name = key_name(token)
        except Unreadable as exc:
            kind = exc.kind
        else:
            return self._judge_by_key(token, name, may_wait=may_wait)
        raise refusal_of(kind, Hidden({}), self._kind)

    def _judge_by_key(
        self, token: Hidden, name: str | None, *, may_wait: bool
    ) -> Caller | Flight[None]:
        flight = self._keys.ask(name)
        if flight is not None and may_wait:
            return flight
        known = self._keys.known
        if known is None:
            raise self._unknown("keys")
        key = known.keys.get(name)
        if key is None:
            raise unknown_key(unverified_claims(token))
        claims = self._claims(token, key)
        if self._issuers.is_older(claims, known):
            flight = self._keys.ask(name, older=True)
            if flight is not None and may_wait:
                return flight
            known = self._keys.known or known
            if known.older is None:
                raise self._unknown("metadata of version 1.0")
        return self._caller(token, claims, known, key)

    def _unknown(self, what: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"{self._issuers.authority.host} has not given its {what} in time, without which this "
            "bearer cannot be judged: try again soon"
        )

    def _claims(self, token: Hidden, key: VerifyingKey) -> Hidden:
        try:
            return verified(token, key, self._audience, self._leeway)
        except Unreadable as exc:
            kind = exc.kind
        raise refusal_of(kind, unverified_claims(token), self._kind)

    def _caller(self, token: Hidden, claims: Hidden, known: Known, key: VerifyingKey) -> Caller:
        """Checks what makes it this API's authority's, and an access token."""
        issuers = (*known.metadata.issuers, *(known.older or ()))
        if not self._issuers.are_of(claims, issuers, key.issuer) or not self._is_of_policy(claims):
            raise wrong_issuer()
        named = named_refusal(claims, self._kind)
        if named is not None:
            raise named
        caller = _caller_of(token, claims, is_app=is_app(claims, self._kind))
        # Without roles, Entra gives any app of a tenant a token for any API that is there.
        if caller.is_app and not caller.roles and self._is_of_entra and not self._takes_any_app:
            raise _without_roles()
        return caller

    def _is_of_policy(self, claims: Hidden) -> bool:
        """Whether it is of the user flow: all flows of a B2C tenant may have one issuer."""
        if self._policy is None:
            return True
        said = claims.cell_contents.get("tfp") or claims.cell_contents.get("acr") or ""
        return bool(said.lower() == self._policy)


def _caller_of(token: Hidden, claims: Hidden, *, is_app: bool) -> Caller:
    get = claims.cell_contents.get
    app = app_of(claims)
    return Caller(
        claims=Claims(claims),
        assertion=token,
        subject=get("sub") or (app if is_app else None) or "",
        scopes=names_in(claims, "scp", "scope"),
        roles=names_in(claims, "roles"),
        tenant=get("tid"),
        object_id=get("oid"),
        client_id=app,
        is_app=is_app,
    )


def _without_roles() -> BearerRefusedError:
    return BearerRefusedError(
        "the calling app has no app role of this API: have an administrator assign one to it",
        status=403,
        error="insufficient_scope",
    )


def _lacking(
    scopes: frozenset[str], roles: frozenset[str], *, by_roles: bool, is_app: bool
) -> BearerRefusedError:
    if not by_roles:
        names = " ".join(sorted(scopes))
        why = f"the token has none of the scopes that this takes ({names}): ask for one of them"
    elif roles:
        whom = "the calling app" if is_app else "the user"
        names = " ".join(sorted(roles))
        why = (
            f"{whom} has none of the app roles that this takes ({names}): have an administrator "
            "assign one"
        )
    else:
        why = "an app by itself may not do this: call it with the token of a user"
    return BearerRefusedError(
        why, status=403, error="insufficient_scope", scopes=tuple(sorted(scopes))
    )


def _texts(given: Iterable[str], what: str) -> frozenset[str]:
    # A text with spaces holds several, and one in a list is one: AD FS has roles with spaces.
    texts = given.split() if isinstance(given, str) else list(given)
    if not all(isinstance(each, str) and each for each in texts):
        raise ConfigurationError(f"{what}= are texts: give each by itself")
    return frozenset(texts)


def _checked_audience(audience: str | Iterable[str] | None, client_id: str) -> list[str]:
    if audience is None:
        # As Microsoft's services write it.
        own = client_id.lower() if is_guid(client_id.lower()) else client_id
        return [own, f"api://{own}"]
    texts = [audience] if isinstance(audience, str) else list(audience)
    if not texts or not all(isinstance(each, str) and each for each in texts):
        raise ConfigurationError(
            "audience= is the client id of this API, its App ID URI, or a list of such texts; left "
            "out, both are taken"
        )
    return texts


def _checked_leeway(leeway: float) -> float:
    number = isinstance(leeway, (int, float)) and not isinstance(leeway, bool)
    if not number or math.isnan(leeway) or not 0 <= leeway <= _MOST_LEEWAY:
        raise ConfigurationError(f"leeway= is in seconds, from 0 to {_MOST_LEEWAY:.0f}")
    return float(leeway)
