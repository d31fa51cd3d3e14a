"""The one place that builds MSAL applications: one per fetch, gone with it.

An application costs some 40 µs over a shared session and known metadata. In return no MSAL cache
outlives its key: no token is found under another B2C policy, no failure of one key is repeated
to another, and nothing grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._runtime.clock import SYSTEM_CLOCK, Clock
from .._runtime.forks import no_fork
from ..errors import (
    AuthorityError,
    ConfigurationError,
    InvalidCredentialError,
    ServiceUnavailableError,
    TokenManagerError,
)
from ..identity.authority import Authority
from ..identity.credentials import ClientCredential
from ..identity.proofs import KeyPair, Proof, SecretText
from ..token import AccessToken
from .wire.connection import Connection

if TYPE_CHECKING:
    import msal

    from .wire.transport import Exchange

__all__ = ["ConfidentialClient", "Grant"]

#: One call of MSAL's public API.
Grant = Callable[["msal.ConfidentialClientApplication"], "dict[str, Any]"]


class _Answer(dict[str, Any]):
    """What MSAL returned. A traceback that shows it shows no token."""

    def __repr__(self) -> str:
        return f"<answer with {', '.join(sorted(self))}>"


class ConfidentialClient:
    """An app at an authority, that asks for tokens.

    Args:
        authority: Whom it asks.
        client_id: Its client id.
        credential: What proves that it is this app.
        connection: The way there; its own when left out.
        clock: The time.

    Raises:
        ConfigurationError: There is no client id.
    """

    def __init__(
        self,
        authority: Authority,
        client_id: str,
        credential: ClientCredential,
        *,
        connection: Connection | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not isinstance(client_id, str) or not client_id.strip():
            raise ConfigurationError("client_id= is missing: give the app's client id")
        self.authority = authority
        self.client_id: str = client_id.strip()
        self._credential = credential
        self._connection = connection or Connection()
        self._clock = clock

    def close(self) -> None:
        """Closes the way to the service."""
        self._connection.close()

    def ask(self, grant: Grant, scopes: tuple[str, ...]) -> AccessToken:
        """Asks for a token, and once more where the credential has been renewed meanwhile.

        Args:
            grant: The call of MSAL that asks.
            scopes: What it asks for.

        Raises:
            TokenManagerError: There is none to be had.
        """
        with no_fork():
            import msal  # noqa: F401 - a tenth of a second: not before the first fetch

            from .answers import token_from_answer

        proof = self._credential.read()
        exchange = self._connection.exchange()
        asked_at = self._clock.wall()
        answer = self._answer(grant, proof, exchange)
        error = self._error(answer, proof)
        if isinstance(error, InvalidCredentialError):
            renewed = self._credential.reread(proof)
            if renewed is not None:
                proof, asked_at = renewed, self._clock.wall()
                answer = self._answer(grant, proof, exchange)
                error = self._error(answer, proof)
        if error is not None:
            raise error
        return token_from_answer(answer, asked_at=asked_at, scopes=scopes)

    def token_endpoint(self) -> str:
        """Says where tokens are asked for, as the authority's metadata has it; kept for a day.

        Raises:
            TokenManagerError: The metadata cannot be had.
        """
        with no_fork():
            import msal

        exchange = self._connection.exchange()
        try:
            application = msal.ClientApplication(self.client_id, **self._address(exchange))
            return str(application.authority.token_endpoint)
        except TokenManagerError:
            raise
        except Exception as exc:  # noqa: BLE001 - MSAL lets through whatever breaks inside it
            raise self._nonsense(AuthorityError, "metadata", exc) from None

    def _error(self, answer: _Answer, proof: Proof) -> TokenManagerError | None:
        from .answers import error_from_answer

        if "access_token" in answer:
            return None
        secret = None if isinstance(proof, KeyPair) else proof.text
        try:
            return error_from_answer(answer, host=self.authority.host, secret=secret)
        finally:
            del secret

    def _answer(self, grant: Grant, proof: Proof, exchange: Exchange) -> _Answer:
        failure: TokenManagerError
        application = None
        try:
            application = self._application(proof, exchange)
            return _Answer(grant(application))
        except TokenManagerError as exc:
            failure = exc
        except Exception as exc:  # noqa: BLE001 - MSAL lets through whatever breaks inside it
            # Without an application it is the metadata, which will be the same next time.
            if application is None:
                failure = self._nonsense(AuthorityError, "metadata", exc)
            else:
                failure = self._nonsense(ServiceUnavailableError, "answer", exc)
        except BaseException as exc:  # noqa: BLE001 - such as Ctrl-C, without MSAL's frames
            raise exc.with_traceback(None)  # noqa: B904
        # Raised out here without what led to it: MSAL's frames hold the request, with the secret.
        raise failure.with_traceback(None)

    def _application(self, proof: Proof, exchange: Exchange) -> msal.ConfidentialClientApplication:
        import msal

        return msal.ConfidentialClientApplication(
            self.client_id, client_credential=_msal_credential(proof), **self._address(exchange)
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
        }

    def _nonsense(
        self, kind: type[TokenManagerError], what: str, exc: Exception
    ) -> TokenManagerError:
        return kind(
            f"MSAL could not make sense of {self.authority.host}'s {what} "
            f"({type(exc).__name__}): check the authority's address"
        )


def _msal_credential(proof: Proof) -> str | dict[str, Any]:
    if isinstance(proof, SecretText):
        return proof.text
    if isinstance(proof, KeyPair):
        credential: dict[str, Any] = {
            "private_key": proof.private_key,
            "public_certificate": "".join(proof.certificates),
        }
        if len(proof.certificates) > 1:
            # MSAL sends a whole chain only to where the key is named by its SHA-1 thumbprint.
            credential["thumbprint"] = proof.thumbprint
        return credential
    return {"client_assertion": lambda: proof.text}
