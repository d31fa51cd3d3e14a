"""A managed identity of Azure: the machine, or the app's host, knows who it is and gives tokens."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..._runtime.backoff import Backoff
from ..._runtime.forks import no_fork
from ..._runtime.secrecy import Hidden, is_unicode
from ...errors import (
    ConfigurationError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    TokenManagerError,
)
from ...identity.authority import Authority
from ...token import AccessToken
from ..answers import Answer, error_from_answer, token_from_answer
from ..msal_call import MsalCall, forgetful_cache
from .base import Asked, SourceCredential, checked_text, this_user_here

if TYPE_CHECKING:
    import requests

__all__ = ["ManagedIdentity"]

#: Seconds to connect: to what has never answered, so that where there is none, as on a laptop, it
#: costs less than one; and to what has.
_PROBE, _CONNECT = 0.8, 2.0
#: Seconds before the first repeat at most, and before any: a half of that at least, as the endpoint
#: throttles whoever comes sooner ("Retry guidance", on Microsoft Learn).
_PAUSE, _LONGEST_PAUSE, _MOST_ATTEMPTS = 2.0, 4.0, 4
#: Statuses after which the endpoint is back within seconds; after 410 it is not.
_SOON, _IN_TROUBLE = frozenset({404, 429}), 500
#: What Service Fabric sets, by which MSAL knows it.
_FABRIC = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT")
#: What is meant where no id is given, and who is asked, for messages.
_SYSTEM, _ENDPOINT = "system", "the endpoint of managed identities"


class ManagedIdentity(SourceCredential):
    """The managed identity of the virtual machine, app, function, container or Arc server.

    It is the registry's credential: ``TokenRegistry(credential=ManagedIdentity())``, without client
    id and authority. Where tokens come from the host says by its environment, as MSAL reads it. No
    address is asked that is not the machine's own, but where Service Fabric has named the
    certificate that answers there; it takes none of the ids, as the cluster says whose tokens it
    gives. See "What are managed identities for Azure resources?" on Microsoft Learn.

    Example:
        >>> from tokenmgr import ManagedIdentity, TokenRegistry
        >>> tokens = TokenRegistry(credential=ManagedIdentity())
        >>> tokens
        <TokenRegistry of ManagedIdentity()>
        >>> vault = tokens.manager("https://vault.azure.net/.default")

    Args:
        client_id: The client id of one that a user has assigned; the system's own when all are
            left out.
        object_id: Its object id, instead.
        resource_id: Its resource id, instead: ``/subscriptions/…``.
        name: Whose tokens these are in a ``store=`` that several machines share: workers with the
            same name take each other's. Left out, a system's own identity is shared by workers of
            this machine and this user of it alone, as no other machine need have the same one; one
            that a user has assigned by all.

    Raises:
        ConfigurationError: Several ids are given, or one is no text.
    """

    grant = "managed_identity"

    def __init__(
        self,
        *,
        client_id: str | None = None,
        object_id: str | None = None,
        resource_id: str | None = None,
        name: str | None = None,
    ) -> None:
        ids = {"client_id": client_id, "object_id": object_id, "resource_id": resource_id}
        given = {kind: checked_text(kind, text) for kind, text in ids.items() if text is not None}
        if len(given) > 1:
            raise ConfigurationError(
                f"ManagedIdentity takes one of {', '.join(given)}: leave the others out, as they "
                "name the same identity"
            )
        self._id = given
        self.authority: Authority = Authority("managed-identity", "given")
        whose = "" if name is None else checked_text("name", name)
        named = [f"{kind}={text.lower()}" for kind, text in given.items()]
        self.name: str = " ".join(named or [_SYSTEM])
        if whose or not given:
            self.name += f" of {whose or this_user_here()}"
        #: Whether its endpoint has ever answered in this process.
        self._answered = False

    def __repr__(self) -> str:
        said = ", ".join(f"{kind}={text!r}" for kind, text in self._id.items())
        return f"ManagedIdentity({said})"

    def check(self, asked: tuple[str, ...]) -> None:  # noqa: D102 - as the base says
        if len(asked) > 1:
            raise InvalidScopeError(
                f"a managed identity gives tokens of one scope at a time, and {len(asked)} were "
                "given: ask for a manager of each"
            )
        if not is_unicode(asked[0]) or not _resource(asked[0]):
            raise InvalidScopeError(
                f"{asked[0]!r} is no scope for a managed identity: it takes {{resource}}/.default, "
                "such as 'https://vault.azure.net/.default'"
            )

    def fetch(self, asked: Asked) -> AccessToken:  # noqa: D102 - as the base says
        if self._id and all(name in os.environ for name in _FABRIC):
            # It would be passed over, and another identity's token be taken for this one's.
            raise ConfigurationError(
                f"Service Fabric gives the tokens of the identity that the cluster has for this "
                f"app, and not those of {self!r}: leave the id out, and set it there"
            )
        deadline = time.monotonic() + asked.seconds
        backoff = Backoff(_PAUSE, _LONGEST_PAUSE, least=0.5)
        while True:
            found = self._ask(asked, deadline)
            if isinstance(found, AccessToken):
                return found
            status = found.status or 0
            now = time.monotonic()
            pause = backoff.fail(now, asked=found.retry_after)
            soon = status in _SOON or status >= _IN_TROUBLE
            late = now + pause >= deadline or backoff.failures >= _MOST_ATTEMPTS
            if not soon or late or not found.retryable:
                raise found
            time.sleep(pause)

    def _ask(self, asked: Asked, deadline: float) -> AccessToken | TokenManagerError:
        """Has MSAL ask once; gives what came of it."""
        with no_fork():
            from ..wire.machine_session import machine_session

        status: list[int] = []
        connect = _CONNECT if self._answered else _PROBE
        # What MSAL is given lives as long as this: its own cache and its own back-off would not be
        # those of one key.
        with machine_session(deadline, connect, status.append) as session, MsalCall() as call:
            call.answer = self._asked(session, asked)
        self._answered = self._answered or bool(status)
        last = status[-1] if status else None
        if call.failure is not None:
            return self._meaning(call.failure, last)
        if "access_token" not in call.answer:
            return _refusal(call.answer, self, last)
        return token_from_answer(
            call.answer, asked_at=asked.now, scopes=asked.scopes, status=last, host=_ENDPOINT
        )

    @no_fork()
    def _asked(self, session: requests.Session, asked: Asked) -> Answer:
        import msal

        identity = (
            msal.UserAssignedManagedIdentity(**self._id)
            if self._id
            else msal.SystemAssignedManagedIdentity()
        )
        application = msal.ManagedIdentityClient(
            identity,
            http_client=session,
            token_cache=forgetful_cache(),
            client_capabilities=["CP1"] if asked.cae else None,
        )
        resource = _resource(asked.scopes[0])
        return Answer(
            application.acquire_token_for_client(resource=resource, claims_challenge=asked.claims)
        )

    def _meaning(self, failure: Exception, status: int | None) -> TokenManagerError:
        """Gives the error of what MSAL, or its session, has raised."""
        if isinstance(failure, TokenManagerError):
            return failure
        import msal
        import requests

        if isinstance(failure, msal.ManagedIdentityError):
            return ConfigurationError(
                f"the host of this managed identity is not set up as MSAL takes it "
                f"({_words_of(failure)}): check IDENTITY_ENDPOINT and what comes with it"
            )
        if isinstance(failure, (requests.RequestException, TimeoutError)) and status is None:
            return self._unreachable()
        if isinstance(failure, OSError) and not isinstance(failure, requests.RequestException):
            return ConfigurationError(
                "the file that Azure Arc names cannot be read "
                f"({failure.strerror or type(failure).__name__}): add this user to the group himds"
            )
        return ServiceUnavailableError(
            f"MSAL could not make sense of what {_ENDPOINT} answered ({type(failure).__name__}): "
            "it is asked again later",
            status=status,
        )

    def _unreachable(self) -> TokenManagerError:
        if self._answered:
            return ServiceUnavailableError(
                f"{_ENDPOINT} gives no answer any more: it is asked again later"
            )
        return ServiceUnavailableError(
            f"{_ENDPOINT} gives no answer: this is no machine of Azure's, or it has no managed "
            "identity. On a developer's machine, AzureCredential(DefaultAzureCredential()) takes "
            "whoever has signed in"
        )


def _resource(scope: str) -> str:
    """Gives the resource of a scope, which is what these endpoints know; empty for none."""
    return scope.removesuffix("/.default") if scope.endswith("/.default") else ""


def _refusal(answer: Answer, identity: ManagedIdentity, status: int | None) -> TokenManagerError:
    """Gives the error of an answer that holds no token."""
    from ..wire.outcomes import parsed
    from ..wire.transport import Response

    # MSAL has Azure Arc's whole answer for the description.
    within = parsed(Response(status or 0, answer.text("error_description") or "", {}))
    answer = within or answer
    said = Hidden((answer.text("error_description") or "").lower())
    # No endpoint says it in one way: App Service in words alone, and as HTTP 400 or 500.
    if "identity" in said.cell_contents or "identities" in said.cell_contents:
        refused = error_from_answer(answer, host=_ENDPOINT, status=status)
        return InvalidCredentialError(
            f"{refused.args[0].partition(' What to do:')[0]} What to do: assign {identity!r} to "
            "this machine or app, or name the one that it has.",
            error=refused.error,
            status=status,
        )
    return error_from_answer(answer, kind=InvalidScopeError, host=_ENDPOINT, status=status)


def _words_of(failure: Exception) -> str:
    """Gives MSAL's own words: of a header that it cannot read it shows all."""
    words = str(failure).partition(":")[0]
    return words if words.isprintable() and len(words) <= 200 else type(failure).__name__
