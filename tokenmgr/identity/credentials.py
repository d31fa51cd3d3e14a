"""What proves who the app is: a secret, a certificate, an assertion, a workload identity.

A credential is a place to read a proof from, not the proof: nothing is read when it is made. A
file or a callable is read anew when the service says that the proof is bad, and a certificate's
file also when it has changed. No repr shows what was read.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .._runtime.forks import no_fork
from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import ConfigurationError
from .proofs import AssertionMaker, Proof, SecretText, SignedAssertion
from .reading import is_content, reader

if TYPE_CHECKING:
    from .token_proxy import TokenProxy

__all__ = [
    "ClientAssertion",
    "ClientCredential",
    "ClientSecret",
    "WorkloadIdentity",
]


#: What returns a signed JWT, perhaps for what it is told of the request.
AssertionCallable = (
    Callable[[], str]
    | Callable[[], Awaitable[str]]
    | Callable[[dict[str, str]], str]
    | Callable[[dict[str, str]], Awaitable[str]]
)


class ClientCredential(Unpicklable, ABC):
    """What proves who the app is."""

    #: What requests for tokens are sent to instead; None where nothing is.
    token_proxy: TokenProxy | None = None
    #: Seconds that reading it may take which are not the fetch's own.
    longest_wait: float = 0.0

    @abstractmethod
    def read(self) -> Proof:
        """Reads the proof as it is now.

        Raises:
            ConfigurationError: It cannot be read; the message names what to do.
            TokenRequestError: A callable of the program's own failed.
        """

    def peek(self) -> Proof | None:
        """Reads the proof for a caller who has no time: None where that may take long.

        Raises:
            TokenManagerError: As :meth:`read` has it.
        """
        return self.read()

    def reread(self, refused: Proof) -> Proof | None:
        """Reads the proof anew, after the service refused one.

        Returns:
            The new proof; None when it is the refused one still, and asking again is in vain.
        """
        proof = self.read()
        return None if proof == refused else proof


class ClientSecret(ClientCredential):
    """A client secret: its text, a callable that gives it, or a file that holds it.

    Give the secret's *value*, not its id. White space around it is left out. A callable or a
    file is read at each fetch, so that the secret can be rotated under a running program.

    Args:
        secret: The text, or a callable without arguments that returns it, such as a vault's.
        file: The path of a file that holds it.

    Raises:
        ConfigurationError: None of them is given, or both, or the text is empty or no str.
    """

    def __init__(
        self,
        secret: str | Callable[[], str] | None = None,
        *,
        file: str | os.PathLike[str] | None = None,
    ) -> None:
        secret, given = None, Hidden(secret)
        known = isinstance(given.cell_contents, (str, type(None))) or callable(given.cell_contents)
        if not known or (given.cell_contents is None) == (file is None):
            raise ConfigurationError(
                "a client secret comes from a text (a str), a callable or a file: give one"
            )
        self._read, self._origin = reader(given, file, "client secret")
        if isinstance(given.cell_contents, str):
            self.read()

    def __repr__(self) -> str:
        return f"<ClientSecret from {self._origin}>"

    def read(self) -> SecretText:  # noqa: D102 - as the base says
        return SecretText(self._read().cell_contents)


class ClientAssertion(ClientCredential):
    """An assertion that a callable signs or fetches, anew for each fetch (RFC 7523, section 2.2).

    Example:
        >>> from tokenmgr import ClientAssertion
        >>> async def from_our_issuer(context: dict[str, str]) -> str:
        ...     return await issuer.sign(sub=context["client_id"], aud=context["token_endpoint"])
        >>> ClientAssertion(from_our_issuer)
        <ClientAssertion from a callable>

    Args:
        assertion: A callable that returns a signed JWT, without arguments or with one: what MSAL
            says of the request, a dict with ``client_id``, ``token_endpoint``, ``tenant`` (its
            GUID or domain name, as the authority has it; left out where that has none) and, where
            a federated identity has a path, ``fmi_path``. It may be async: then it is run in an
            event loop of the call's own, never in a caller's, and so opens within itself what it
            needs. One that is async or takes an argument has what is left of the fetch's time.

    Raises:
        ConfigurationError: It is no callable.
    """

    def __init__(self, assertion: AssertionCallable) -> None:
        assertion, given = _nothing, Hidden(assertion)
        if not callable(given.cell_contents):  # a text here is a secret
            raise ConfigurationError(
                "ClientAssertion takes a callable that returns a new JWT, as a fixed one expires: "
                "pass a function"
            )
        self._read, _ = reader(given, None, "client assertion")
        #: What makes it for one request, where that cannot be done before.
        self._maker: AssertionMaker | None = _maker(given)

    @classmethod
    def from_managed_identity(
        cls, identity: object, *, audience: str | None = None
    ) -> ClientAssertion:
        """Makes one that a managed identity gives: the app needs no secret anywhere.

        The app's registration has to trust the identity, as one of its federated credentials. It
        is asked for once for all tokens of a registry, and renewed in the background. See
        "Configure an application to trust a managed identity" on Microsoft Learn.

        Example:
            >>> from tokenmgr import ClientAssertion, ManagedIdentity
            >>> ClientAssertion.from_managed_identity(ManagedIdentity())
            <ClientAssertion from ManagedIdentity()>

        Args:
            identity: A :class:`~tokenmgr.ManagedIdentity`, or an
                :class:`~tokenmgr.AzureCredential`.
            audience: Whom the assertion is for; what the authority's cloud has when left out, such
                as ``api://AzureADTokenExchange``.

        Raises:
            ConfigurationError: The audience is no text. A registry refuses what is no identity.
        """
        if audience is not None and (not isinstance(audience, str) or not audience.strip()):
            raise ConfigurationError(
                "audience= is a text, such as 'api://AzureADTokenExchange': correct it"
            )
        return FederatedAssertion(identity, audience)

    def __repr__(self) -> str:
        return "<ClientAssertion from a callable>"

    def read(self) -> SignedAssertion | AssertionMaker:  # noqa: D102 - as the base says
        return self._maker or SignedAssertion(self._read().cell_contents)

    def peek(self) -> Proof | None:  # noqa: D102 - as the base says
        # What is made for each request tells nothing before it is asked for.
        return None if self._maker is not None else self.read()

    def reread(self, refused: Proof) -> Proof | None:  # noqa: D102 - as the base says
        if self._maker is None or not isinstance(refused, SignedAssertion):
            return super().reread(refused)
        return AssertionMaker(self._maker.make, self._maker.wants_context, Hidden(refused.text))


class FederatedAssertion(ClientAssertion):
    """What :meth:`ClientAssertion.from_managed_identity` makes; a registry keeps the assertion.

    Args:
        identity: What gives it.
        audience: Whom it is for; None for what the authority's cloud has.
    """

    def __init__(self, identity: object, audience: str | None) -> None:
        super().__init__(_nothing)
        self.identity = identity
        self.audience = audience

    def __repr__(self) -> str:
        return f"<ClientAssertion from {self.identity!r}>"


class WorkloadIdentity(ClientCredential):
    """A federated token in a file, such as the one that Kubernetes projects into a pod.

    The file is read at each fetch, as Kubernetes rewrites it. See "Microsoft Entra Workload ID"
    on Microsoft Learn.

    Args:
        token_file: Its path; left out, what ``AZURE_FEDERATED_TOKEN_FILE`` says.
        enable_azure_proxy: Whether to ask for tokens through the proxy of AKS's identity bindings,
            where ``AZURE_KUBERNETES_TOKEN_PROXY`` names one, with ``AZURE_KUBERNETES_SNI_NAME`` and
            ``AZURE_KUBERNETES_CA_FILE`` or ``AZURE_KUBERNETES_CA_DATA``; as azure-identity has it.

    Raises:
        ConfigurationError: Neither names a file, or the proxy's variables cannot be right.
    """

    def __init__(
        self,
        token_file: str | os.PathLike[str] | None = None,
        *,
        enable_azure_proxy: bool = False,
    ) -> None:
        token_file, given = None, Hidden(token_file or os.environ.get("AZURE_FEDERATED_TOKEN_FILE"))
        if not given.cell_contents or is_content(given.cell_contents):
            # A token in place of its path is not to be shown.
            raise ConfigurationError(
                "WorkloadIdentity needs the path of a token file: pass token_file=, or set "
                "AZURE_FEDERATED_TOKEN_FILE"
            )
        self._read, self._origin = reader(Hidden(None), given.cell_contents, "federated token")
        if enable_azure_proxy:
            with no_fork():
                from .token_proxy import own_token_proxy

            self.token_proxy: TokenProxy | None = own_token_proxy()

    def __repr__(self) -> str:
        return f"<WorkloadIdentity from {self._origin}>"

    def read(self) -> SignedAssertion:  # noqa: D102 - as the base says
        return SignedAssertion(self._read().cell_contents)


def _nothing() -> str:
    return ""


def _maker(given: Hidden) -> AssertionMaker | None:
    with no_fork():
        from .callables import ProgramCall, is_async, wants_argument

    wants_context = wants_argument(given.cell_contents)
    if not wants_context and not is_async(given.cell_contents):
        return None
    return AssertionMaker(ProgramCall(given, "client assertion"), wants_context)
