"""The one place that builds MSAL applications: one per fetch, gone with it.

An application costs some 40 µs over a shared session and known metadata. In return no MSAL cache
outlives its key: no token is found under another B2C policy, no failure of one key is repeated
to another, and nothing grows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from .._context import Context, new_context
from .._runtime.forks import no_fork
from .._runtime.secrecy import Hidden, is_unicode
from ..errors import (
    ConfigurationError,
    InvalidCredentialError,
    ServiceUnavailableError,
    TokenManagerError,
)
from ..identity.authority import Authority
from ..identity.credentials import ClientCredential
from ..identity.proofs import AssertionMaker, KeyPair, NoProof, Proof, RemoteKey
from ..token import AccessToken, TokenKey
from .answers import Answer, error_from_answer, token_from_answer
from .breaker import Breaker
from .certificate_watch import CertificateWatch
from .msal_call import MsalCall, forgetful_cache, msal_credential
from .particulars import Extra, Particulars
from .wire.connection import Connection
from .wire.regions import region_of, regional_host

if TYPE_CHECKING:
    import msal

    from .assertion import AssertionCall
    from .wire.exchange import Exchange

__all__ = ["Client", "Grant"]

#: One call of MSAL's public API.
Grant = Callable[[Any], "dict[str, Any]"]

#: What an app says in the claims of its requests that answers claims challenges.
_CAE = ["CP1"]


class _NoCredential(ClientCredential):
    """What a public client has in place of a credential."""

    def read(self) -> Proof:
        return NoProof()


class Client:
    """An app at an authority, that asks for tokens.

    Args:
        authority: Whom it asks.
        client_id: Its client id.
        credential: What proves that it is this app; None for a public client, which nothing does.
        connection: The way there; its own when left out.
        context: The time, and where events go; its own when left out.
        cae: Whether it says that it answers claims challenges, where a source does not.
        particulars: What it says of itself, and adds to its requests.
        given_by: The credential that gives its tokens by itself; None where an authority does.
        beside: The same app at another authority.

    Raises:
        ConfigurationError: There is no client id.
    """

    def __init__(
        self,
        authority: Authority,
        client_id: str,
        credential: ClientCredential | None,
        *,
        connection: Connection | None = None,
        context: Context | None = None,
        cae: bool = False,
        particulars: Particulars | None = None,
        given_by: object = None,
        beside: Client | None = None,
    ) -> None:
        if not isinstance(client_id, str) or not client_id.strip():
            raise ConfigurationError("client_id= is missing: give the app's client id")
        if not is_unicode(client_id):
            raise ConfigurationError(
                "client_id= has characters that UTF-8 cannot say: give the app's client id"
            )
        self.authority = authority
        self.cae = cae
        self.particulars: Particulars = particulars or Particulars()
        self.client_id: str = client_id.strip()
        self.given_by = given_by
        self._credential: ClientCredential = credential or _NoCredential()
        self._connection = connection or Connection()
        self._context = context or new_context()
        self._breaker = Breaker(str(authority), self._context)
        #: The proof that the service refused last.
        self._refused: Proof | None = None
        #: The same app at each authority where anybody has it, this one among them.
        self._everywhere: WeakValueDictionary[str, Client] = (
            WeakValueDictionary() if beside is None else beside._everywhere  # noqa: SLF001 - its own
        )
        self._everywhere[authority.url] = self
        self._watch: CertificateWatch = (
            CertificateWatch(self._context) if beside is None else beside._watch  # noqa: SLF001 - its own
        )

    @property
    def longest_wait(self) -> float:
        """Seconds that asking may take beyond a fetch, for its credential to be read, and anew."""
        return 2 * self._credential.longest_wait

    @property
    def is_public(self) -> bool:
        """Whether nothing proves that it is this app (RFC 6749, section 2.1)."""
        return self.given_by is None and isinstance(self._credential, _NoCredential)

    @property
    def context(self) -> Context:
        """The time, and where events go."""
        return self._context

    def watching(self, key: TokenKey) -> AbstractContextManager[None]:
        """Has the authority's breaker watch a fetch that is not made here."""
        return self._breaker.watching(key)

    def check_app(self, what: str) -> None:
        """Refuses what a credential that gives tokens by itself has no part in.

        Args:
            what: The method that asks for it.

        Raises:
            ConfigurationError: There is no app of the program's own.
        """
        if self.given_by is not None:
            raise ConfigurationError(
                f"{what} takes an app of your own, and {self.given_by!r} gives its own tokens "
                "alone: make a TokenRegistry(client_id=, authority=) for the app, which needs no "
                "secret with credential=ClientAssertion.from_managed_identity(ManagedIdentity())"
            )

    def check_credential(self, what: str) -> None:
        """Refuses what an app without a credential cannot ask for.

        Args:
            what: The method that asks for it.

        Raises:
            ConfigurationError: It has none, or one that gives its own tokens alone.
        """
        self.check_app(what)
        if self.is_public:
            raise ConfigurationError(
                f"{what} needs a credential, and this app was given none: pass credential= to "
                "TokenRegistry; without one it is a public client, which signs users in, by "
                "sign_in() or begin_device_code()"
            )

    def close(self) -> None:
        """Closes the way to the service."""
        self._connection.close()

    def wall(self) -> float:
        """Tells the time, in seconds since 1970."""
        return self._context.clock.wall()

    def at(self, authority: Authority) -> Client:
        """Gives the same app at another authority, by the same way, with that one's breaker."""
        return self._everywhere.get(authority.url) or Client(
            authority,
            self.client_id,
            self._credential,
            connection=self._connection,
            context=self._context,
            cae=self.cae,
            particulars=self.particulars,
            given_by=self.given_by,
            beside=self,
        )

    def key(
        self,
        grant: str,
        scopes: tuple[str, ...],
        subject: str = "",
        *,
        cae: bool | None = None,
        forwarded_claims: str | None = None,
        extra: Extra | None = None,
    ) -> TokenKey:
        """Makes the key of a token that it asks for; what is left out is as the app has it."""
        own = self.particulars
        claims = own.forwarded_claims if forwarded_claims is None else forwarded_claims
        return TokenKey(
            authority=self.authority.url,
            client_id=self.client_id,
            grant=grant,
            scopes=scopes,
            subject=self._subject(subject),
            cae=self.cae if cae is None else cae,
            forwarded_claims=claims,
            extra=own.extra if extra is None else extra,
        )

    def _subject(self, subject: str) -> str:
        """Says whose a token is, with all that its key has of it besides."""
        return subject

    def read_proof(self) -> Proof:
        """Reads what proves that it is this app.

        Raises:
            TokenManagerError: It cannot be read.
        """
        proof = self._credential.read()
        if isinstance(proof, (KeyPair, RemoteKey)):
            return self._watch.newest(self._credential, proof)
        return proof

    def is_gone(self, error: TokenManagerError, failed_at: float) -> bool:
        """Whether what a failure came from has changed since, so that asking again makes sense.

        Args:
            error: The failure.
            failed_at: When it was, on the elapsed clock.
        """
        if isinstance(error, ServiceUnavailableError):
            return self._breaker.is_worth_asking(failed_at)
        if isinstance(error, (InvalidCredentialError, ConfigurationError)):
            try:
                return self._credential.peek() not in (None, self._refused)
            except TokenManagerError:
                return False
        return False

    def ask(
        self,
        grant: Grant,
        key: TokenKey,
        proof: Proof | None = None,
        *,
        hear_all: Callable[[Answer, str], object] | None = None,
        plain: bool = False,
    ) -> AccessToken:
        """Asks for a token, and once more where the credential has been renewed meanwhile.

        Args:
            grant: The call of MSAL that asks.
            key: What it asks for.
            proof: What the credential has just said; it is read when it is left out.
            hear_all: Is told all that the service said, and the issuer of the authority's tokens.
            plain: Whether MSAL's confidential client asks, whatever the app is: its methods are the
                same, but for those that it has of the public one to warn of.

        Raises:
            TokenManagerError: There is none to be had.
        """
        with self._breaker.watching(key):
            proof = proof or self.read_proof()
            exchange, refusal = self._exchange_for(key), None
            while True:
                # MSAL imports as it goes, and its exchange lets forks go ahead while it sends.
                with MsalCall() as call, no_fork():
                    call.assertion = self._assertion(proof, exchange)
                    call.application = self._application(
                        proof, exchange, cae=key.cae, plain=plain, assertion=call.assertion
                    )
                    call.answer = Answer(grant(call.application))
                error = self._error(call, proof, exchange)
                if error is None:
                    return self._token(call.answer, key, exchange, hear_all)
                proof, refusal = self._renewed(call, proof, error, refusal), error

    def _renewed(
        self,
        call: MsalCall,
        proof: Proof,
        error: TokenManagerError,
        refusal: TokenManagerError | None,
    ) -> Proof:
        """Reads a proof anew that was refused, once; raises the error where there is no other.

        Args:
            call: What was refused.
            proof: What it was asked with.
            error: What it was refused with.
            refusal: What the call before it was refused with; None for the first one.
        """
        refused = call.shown(proof) if isinstance(error, InvalidCredentialError) else None
        renewed = self._credential.reread(refused) if refused and not refusal else None
        if renewed is None:
            self._refused = refused
            raise refusal if refusal and call.repeats else error
        return renewed

    def _assertion(self, proof: Proof, exchange: Exchange) -> AssertionCall | None:
        """Makes what makes the assertion of each request, where the proof is no such thing yet."""
        if not isinstance(proof, (RemoteKey, AssertionMaker)):
            return None
        from .assertion import AssertionCall

        claims = Hidden(self.particulars.client_claims)
        return AssertionCall(proof, self.authority, claims, lambda: exchange.seconds_left)

    def _exchange_for(self, key: TokenKey) -> Exchange:
        """Opens the requests for a token, with all that the app adds to them.

        Only its own tokens are asked for in its region; users' are asked for everywhere.
        """
        own = key.grant == "client_credentials"
        exchange = self._exchange(region=region_of(self.particulars.region) if own else None)
        exchange.claims, exchange.extra = Hidden(key.forwarded_claims), Hidden(key.extra)
        return exchange

    def _exchange(self, *, documented: bool = True, region: str | None = None) -> Exchange:
        return self._connection.exchange(
            self.authority,
            documented=documented,
            regional=regional_host(self.authority, region),
            wall=self._context.clock.wall,
            token_proxy=self._credential.token_proxy,
        )

    def asking(self) -> Exchange:
        """Opens requests for what anybody may read, with one deadline for all of them.

        Raises:
            ConfigurationError: The registry is closed.
        """
        return self._exchange(documented=False)

    def token_endpoint(self) -> str:
        """Says where tokens are asked for, as the authority's metadata has it; kept for a day.

        It is asked for also where the endpoints are documented, as it names a tenant by its GUID.

        Raises:
            TokenManagerError: The metadata cannot be had.
        """
        endpoint = self.prepare(_token_endpoint, documented=False)
        return str(endpoint.cell_contents)

    def prepare(
        self,
        work: Callable[[Any], Any],
        key: TokenKey | None = None,
        *,
        documented: bool = True,
        hear: Callable[[str, bool], object] | None = None,
    ) -> Hidden:
        """Has MSAL do what needs no proof of who the app is, such as begin a sign-in.

        Args:
            work: The call of MSAL, of a public client.
            key: What it is for, where the service is asked for more than its metadata.
            documented: Whether endpoints are taken as they are documented.
            hear: Is told the issuer of the authority's tokens, and whether it names itself when a
                user comes back.

        Returns:
            What MSAL gives, hidden.

        Raises:
            TokenManagerError: The service, or its metadata, cannot be had.
        """
        with self._breaker.watching(key) if key else nullcontext():
            exchange = self._exchange(documented=documented)
            with MsalCall() as call, no_fork():
                call.application = self._application(NoProof(), exchange, cae=self.cae)
                given = Hidden(work(call.application))
            error = call.error(exchange, self.authority.host)
            if error is not None:
                raise error
        exchange.remember()
        if hear is not None:
            hear(exchange.issuer, exchange.names_issuer)
        return given

    def end_session_endpoint(self) -> str:
        """Says where users sign out, as the authority's metadata has it; empty where it does not.

        Raises:
            TokenManagerError: The metadata cannot be had.
        """
        exchange = self._exchange(documented=False)
        response = exchange.get(f"{self.authority.url}/.well-known/openid-configuration")
        exchange.remember()
        return str(json.loads(response.text).get("end_session_endpoint") or "")

    def _token(
        self,
        answer: Answer,
        key: TokenKey,
        exchange: Exchange,
        hear_all: Callable[[Answer, str], object] | None,
    ) -> AccessToken:
        token = token_from_answer(
            answer,
            asked_at=exchange.asked_at,
            scopes=key.scopes,
            status=exchange.status,
            host=self.authority.host,
        )
        exchange.remember()
        if hear_all is not None:
            hear_all(exchange.said, exchange.issuer)
        return token

    def _error(self, call: MsalCall, proof: Proof, exchange: Exchange) -> TokenManagerError | None:
        """Gives the error to raise, where the call brought no token."""
        error = call.error(exchange, self.authority.host)
        if error is not None or "access_token" in call.answer:
            return error
        return error_from_answer(
            call.answer,
            host=self.authority.host,
            secret=call.secret(proof),
            status=exchange.status,
        )

    def _application(
        self,
        proof: Proof,
        exchange: Exchange,
        *,
        cae: bool,
        plain: bool = False,
        assertion: AssertionCall | None = None,
    ) -> msal.ClientApplication:
        with no_fork():
            import msal  # a tenth of a second: not before the first fetch

        kind = msal.ConfidentialClientApplication
        if isinstance(proof, NoProof) and not plain:
            kind = msal.PublicClientApplication
        return kind(
            self.client_id,
            client_credential=msal_credential(proof, assertion),
            client_capabilities=_CAE if cae else None,
            token_cache=forgetful_cache(),
            **self._address(exchange),
        )

    def _address(self, exchange: Exchange) -> dict[str, Any]:
        """Whom an application of MSAL asks, and through what."""
        oidc = self.authority.kind == "oidc"
        return {
            "authority": None if oidc else self.authority.url,
            "oidc_authority": self.authority.url if oidc else None,
            # Who names a host trusts it. MSAL would ask login.microsoftonline.com about it.
            "instance_discovery": False,
            "http_client": exchange,
            **self.particulars.of_msal(),
        }


def _token_endpoint(application: msal.ClientApplication) -> str:
    return str(application.authority.token_endpoint)
