"""What proves who the app is: a secret, a certificate, an assertion, a workload identity.

A credential is a place to read a proof from, not the proof: nothing is read when it is made. A
file or a callable is read anew when the service says that the proof is bad, and a certificate's
file also when it has changed. No repr shows what was read.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import cast

from .._runtime.forks import no_fork
from .._runtime.secrecy import Hidden, Unpicklable, is_unicode
from ..errors import ConfigurationError, TokenManagerError, TokenRequestError
from .proofs import KeyPair, Proof, SecretText, SignedAssertion

__all__ = [
    "Certificate",
    "ClientAssertion",
    "ClientCredential",
    "ClientSecret",
    "WorkloadIdentity",
]


class ClientCredential(Unpicklable, ABC):
    """What proves who the app is."""

    @abstractmethod
    def read(self) -> Proof:
        """Reads the proof as it is now.

        Raises:
            ConfigurationError: It cannot be read; the message names what to do.
            TokenRequestError: A callable of the program's own failed.
        """

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
        self._read, self._origin = _reader(given, file, "client secret")
        if isinstance(given.cell_contents, str):
            self.read()

    def __repr__(self) -> str:
        return f"<ClientSecret from {self._origin}>"

    def read(self) -> SecretText:  # noqa: D102 - as the base says
        return SecretText(self._read().cell_contents)


class ClientAssertion(ClientCredential):
    """An assertion that a callable signs or fetches, anew for each fetch (RFC 7523, section 2.2).

    Args:
        assertion: A callable without arguments that returns a signed JWT.
    """

    def __init__(self, assertion: Callable[[], str]) -> None:
        assertion, given = _nothing, Hidden(assertion)
        if not callable(given.cell_contents):  # a text here is a secret
            raise ConfigurationError(
                "ClientAssertion takes a callable that returns a new JWT, as a fixed one expires: "
                "pass a function"
            )
        self._read, _ = _reader(given, None, "client assertion")

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

    def read(self) -> SignedAssertion:  # noqa: D102 - as the base says
        return SignedAssertion(self._read().cell_contents)


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

    Raises:
        ConfigurationError: Neither names a file.
    """

    def __init__(self, token_file: str | os.PathLike[str] | None = None) -> None:
        token_file, given = None, Hidden(token_file or os.environ.get("AZURE_FEDERATED_TOKEN_FILE"))
        if not given.cell_contents or _is_content(given.cell_contents):
            # A token in place of its path is not to be shown.
            raise ConfigurationError(
                "WorkloadIdentity needs the path of a token file: pass token_file=, or set "
                "AZURE_FEDERATED_TOKEN_FILE"
            )
        self._read, self._origin = _reader(Hidden(None), given.cell_contents, "federated token")

    def __repr__(self) -> str:
        return f"<WorkloadIdentity from {self._origin}>"

    def read(self) -> SignedAssertion:  # noqa: D102 - as the base says
        return SignedAssertion(self._read().cell_contents)


class Certificate(ClientCredential):
    """A certificate with its private key, as PEM or PFX.

    A file is parsed again whenever it has changed.

    Args:
        source: The path of a ``.pem`` or ``.pfx`` file, or its content as bytes. PEM holds the
            private key and the certificate, in any order, and what issued it if it is to be sent.
        password: What the private key is encrypted with, if it is.
        send_chain: Whether to send the issuers' certificates along, as subject name and issuer
            authentication needs.

    Raises:
        ConfigurationError: ``source`` is neither.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        password: str | bytes | None = None,
        send_chain: bool = False,
    ) -> None:
        source, password, given = "", None, Hidden((source, password))
        self._password: bytes | None = _encoded(
            given.cell_contents[1], "password of the certificate"
        )
        given = Hidden(given.cell_contents[0])
        self._content: bytes | None = None
        self._path: Path | None = None
        if isinstance(given.cell_contents, str) and "-----BEGIN" in given.cell_contents:
            self._content = _encoded(given.cell_contents, "certificate")
        elif isinstance(given.cell_contents, (bytes, bytearray)):
            self._content = bytes(given.cell_contents)
        elif _is_path(given.cell_contents):
            self._path = Path(given.cell_contents)
        else:  # such as MSAL's dict, or a vault's base64: both hold the private key
            raise ConfigurationError(
                "Certificate needs a path, or the bytes of a PEM or PFX file: decode base64 first"
            )
        self._send_chain = send_chain
        #: What the file's stat was when it was parsed, and what came of it; replaced whole.
        self._parsed: tuple[object, KeyPair] | None = None

    def __repr__(self) -> str:
        return f"<Certificate from {self._path or 'bytes'}>"

    def read(self) -> KeyPair:  # noqa: D102 - as the base says
        version = self._version()
        parsed = self._parsed
        if parsed is None or parsed[0] != version:
            self._parsed = parsed = (version, self._parse())
        return parsed[1]

    def reread(self, refused: Proof) -> Proof | None:  # noqa: D102 - as the base says
        self._parsed = None  # a file can change within its time stamp's grain
        return super().reread(refused)

    def _version(self) -> object:
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except (OSError, ValueError) as exc:
            raise _unreadable(self._path, "certificate", exc) from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _parse(self) -> KeyPair:
        with no_fork():
            from .key_pair import parse_key_pair

            # The content gets no name here, as a traceback shows what has one.
            return parse_key_pair(
                self._content or b""
                if self._path is None
                else _read_file(self._path, "certificate"),
                self._password,
                send_chain=self._send_chain,
                origin=str(self._path or "the bytes given"),
            )


def _nothing() -> str:
    return ""


def _reader(
    given: Hidden, file: str | os.PathLike[str] | None, what: str
) -> tuple[Callable[[], Hidden], str]:
    """Makes the function that reads a text from where it is, and says where that is."""
    if file is not None:
        if not isinstance(file, (str, os.PathLike)) or not os.fspath(file):
            raise ConfigurationError(f"the file of the {what} is no path: give one")
        path = Path(file)
        return lambda: _text(_read_file(path, what), f"{what} in {path}"), str(path)
    if callable(given.cell_contents):
        function = given.cell_contents
        return lambda: _text(_call(function, what), f"{what} from the callable"), "a callable"
    return lambda: _text(given.cell_contents, what), "a text"


def _is_path(source: object) -> bool:
    return isinstance(source, (str, os.PathLike)) and source != "" and not _is_content(source)


def _is_content(source: str | os.PathLike[str]) -> bool:
    """Whether it is no path but a secret: a PFX in base64, as a vault gives it, or a JWT."""
    return isinstance(source, str) and len(source) > 255 and source.startswith(("MII", "eyJ"))


def _text(value: object, what: str) -> Hidden:
    value, given = None, Hidden(value)
    if isinstance(given.cell_contents, (bytes, bytearray)):
        given = Hidden(given.cell_contents.decode("utf-8-sig", errors="replace"))
    if not isinstance(given.cell_contents, str):  # it may be secret all the same
        kind = f"a {type(given.cell_contents).__name__}, not a text"
        raise ConfigurationError(f"the {what} is {kind}: give its value")
    if not given.cell_contents.strip():
        raise ConfigurationError(f"the {what} is empty: give its value")
    _check_unicode(given, what)
    return Hidden(given.cell_contents.strip())


def _encoded(text: str | bytes | None, what: str) -> bytes | None:
    text, given = None, Hidden(text)
    if not isinstance(given.cell_contents, str):
        return cast("bytes | None", given.cell_contents)
    _check_unicode(given, what)
    return bytes(given.cell_contents.encode())


def _check_unicode(given: Hidden, what: str) -> None:
    if not is_unicode(given.cell_contents):
        raise ConfigurationError(
            f"the {what} has characters that UTF-8 cannot say, as when it was set in another "
            "encoding: set it in UTF-8"
        )


def _call(function: Callable[[], object], what: str) -> object:
    try:
        return function()
    except TokenManagerError:
        raise
    except Exception as exc:
        raise TokenRequestError(
            f"the callable that gives the {what} failed with {type(exc).__name__}, which is "
            "chained to this error",
            retryable=True,
        ) from exc


def _read_file(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as exc:
        raise _unreadable(path, what, exc) from None


def _unreadable(path: Path, what: str, exc: Exception) -> ConfigurationError:
    reason = getattr(exc, "strerror", None) or type(exc).__name__
    return ConfigurationError(
        f"the {what} in {str(path)!r} cannot be read ({reason}): check the path, and that this "
        "process may read it"
    )
