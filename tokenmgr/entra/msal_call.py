"""One call of MSAL: what it is given as a proof, and what comes of it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from .._runtime.secrecy import Hidden
from .._runtime.stack import handled_now, let_interruptions_pass
from ..errors import AuthorityError, ServiceUnavailableError, TokenManagerError
from ..identity.proofs import (
    AssertionMaker,
    KeyPair,
    NoProof,
    Proof,
    SecretText,
    SignedAssertion,
)
from .answers import Answer

if TYPE_CHECKING:
    import msal
    from typing_extensions import Self

    from .assertion import AssertionCall
    from .wire.exchange import Exchange

__all__ = ["MsalCall", "forgetful_cache", "msal_credential"]


class MsalCall:
    """One call of MSAL, and what came of it.

    What MSAL raises is caught here, to be raised anew without what led to it: its frames hold the
    request, with the secret.
    """

    application: msal.ClientApplication | None = None
    answer: Answer = Answer({})
    failure: Exception | None = None
    #: What makes the assertion, where it is made for this call.
    assertion: AssertionCall | None = None

    def __enter__(self) -> Self:
        self._handled = handled_now()
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> bool:
        if exc is None:
            return False
        let_interruptions_pass(exc, self._handled)
        if not isinstance(exc, Exception):  # such as a greenlet's end
            raise exc.with_traceback(None)
        self.failure = exc.with_traceback(None)
        return True

    @property
    def repeats(self) -> bool:
        """Whether nothing was asked, as the assertion would have been the one refused before."""
        return self.assertion is not None and self.assertion.repeats

    def shown(self, proof: Proof) -> Proof:
        """Gives what was shown to the service: the assertion that a callable made, where one did.

        Args:
            proof: What was read.
        """
        made = None if self.assertion is None else self.assertion.text
        if made is None or not isinstance(proof, AssertionMaker):
            return proof
        return SignedAssertion(made.cell_contents)

    def secret(self, proof: Proof) -> Hidden:
        """Gives what of the app's own was sent, which an answer may repeat.

        Args:
            proof: What was read.
        """
        made = None if self.assertion is None else self.assertion.text
        return made or Hidden(getattr(proof, "text", None))

    def error(self, exchange: Exchange, host: str) -> TokenManagerError | None:
        """Gives the error that a failure stands for; None where MSAL gave something.

        Args:
            exchange: What it asked through.
            host: Whom it asked.
        """
        if self.failure is None or isinstance(self.failure, TokenManagerError):
            return self.failure
        # MSAL lets through whatever breaks inside it. Without an application it is the metadata,
        # which will be the same next time.
        kind: type[TokenManagerError] = ServiceUnavailableError
        if self.application is None:
            exchange.forget()
            kind = AuthorityError
        return kind(
            f"MSAL could not make sense of {host}'s "
            f"{'metadata' if self.application is None else 'answer'} "
            f"({type(self.failure).__name__}): check the authority's address",
            status=exchange.status,
        )


@cache
def _forgetful() -> Any:
    import msal

    class ForgetfulCache(msal.TokenCache):  # type: ignore[misc]  # it ships no types
        """What an application of one call keeps: nothing.

        MSAL's own logs what it is told, at level DEBUG: authorization codes, PKCE verifiers and
        device codes among it.
        """

        def add(self, event: Any, now: Any = None) -> None:
            """Does nothing."""

    return ForgetfulCache


def forgetful_cache() -> Any:
    """Makes a cache for an application of MSAL's, in which nothing is."""
    return _forgetful()()


def msal_credential(
    proof: Proof, assertion: AssertionCall | None = None
) -> str | dict[str, Any] | None:
    """Gives a proof as MSAL takes it.

    Args:
        proof: The proof.
        assertion: What makes the assertion, where it is made for each request.
    """
    if assertion is not None:
        return {"client_assertion": assertion}
    if isinstance(proof, NoProof):
        return None
    if isinstance(proof, SecretText):
        return proof.text
    if isinstance(proof, KeyPair):
        return {
            "private_key": proof.private_key,
            "public_certificate": "".join(proof.certificates),
            # MSAL sends a whole chain only to where the key is named by its SHA-1 thumbprint.
            **({"thumbprint": proof.thumbprint} if len(proof.certificates) > 1 else {}),
        }
    text = Hidden(getattr(proof, "text", ""))
    return {"client_assertion": lambda: text.cell_contents}
