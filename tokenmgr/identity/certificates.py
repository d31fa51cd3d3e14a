"""A certificate as what proves who the app is, with its key, or with what signs in its place."""

from __future__ import annotations

import binascii
import os
import threading
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .._runtime.forks import fork_allowed, no_fork, renew_in_child
from .._runtime.secrecy import Hidden
from ..errors import ConfigurationError, TokenRequestError
from .credentials import ClientCredential
from .proofs import KeyPair, Proof, RemoteKey
from .reading import encoded, is_path, read_file, unreadable

if TYPE_CHECKING:
    from .callables import ProgramCall

__all__ = ["Certificate", "CertificateSource", "Signer"]

#: The content of a file, or what gives it.
CertificateSource = (
    str
    | os.PathLike[str]
    | bytes
    | Callable[[], bytes | str]
    | Callable[[], Awaitable[bytes | str]]
)
#: What signs bytes with a key that it keeps to itself.
Signer = Callable[[bytes], bytes] | Callable[[bytes], Awaitable[bytes]]


class Certificate(ClientCredential):
    """A certificate with its private key, as PEM or PFX, or with what signs in the key's place.

    A file is parsed again whenever it has changed. A callable is called for the first fetch, and
    again when the service refuses what it gave, when that ends, and when its end is near: once for
    all fetches that need it at a time.

    Example:
        >>> from tokenmgr import Certificate
        >>> kept = Certificate("/run/secrets/app.pem")
        >>> def sign(data: bytes) -> bytes:
        ...     digest = hashlib.sha256(data).digest()
        ...     return vault_key.sign(SignatureAlgorithm.ps256, digest).signature
        >>> in_a_vault = Certificate("app.cer", sign=sign)

    Args:
        source: The path of a ``.pem`` or ``.pfx`` file, or its content as bytes, or a callable
            without arguments that gives the content, such as a vault's (async, too): bytes, the
            text of a PEM, or a PFX in base64. PEM holds the private key and the certificate, in
            any order, and what issued it if it is to be sent.
        password: What the private key is encrypted with, if it is.
        send_chain: Whether to send the issuers' certificates along, as subject name and issuer
            authentication needs.
        sign: A callable that signs bytes (RFC 7515, section 5.1) with a key that it keeps to
            itself, such as Azure Key Vault's or an HSM's, and gives the signature as bytes (async,
            too). It is to hash them with SHA-256 itself. ``source`` is then the public certificate
            alone, as PEM or DER. It has what is left of the fetch's time. In a store there is no
            key to derive another one from: pass ``encryption_key=``.
        algorithm: How ``sign`` signs: ``PS256`` (RSA-PSS), or ``RS256`` (PKCS #1 version 1.5), the
            only one that AD FS takes.

    A callable for the source has 10 seconds. One that is async is run in an event loop of the
    call's own, and so opens within itself what it needs.

    Raises:
        ConfigurationError: ``source`` is none of these, or a setting contradicts another.
    """

    def __init__(
        self,
        source: CertificateSource,
        *,
        password: str | bytes | None = None,
        send_chain: bool = False,
        sign: Signer | None = None,
        algorithm: Literal["PS256", "RS256"] = "PS256",
    ) -> None:
        source, password, sign, given = "", None, None, Hidden((source, password, sign))
        self._password: bytes | None = encoded(
            given.cell_contents[1], "password of the certificate"
        )
        self._sign: ProgramCall | None = _signer(Hidden(given.cell_contents[2]), algorithm)
        if self._sign is not None and self._password is not None:
            raise ConfigurationError(
                "a Certificate with sign= has no private key for password= to open: leave one out"
            )
        self._take(Hidden(given.cell_contents[0]))
        self._send_chain = send_chain
        self._algorithm: str = algorithm
        #: What the file's stat was when it was parsed, and what came of it; replaced whole.
        self._parsed: tuple[object, KeyPair | RemoteKey] | None = None
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew: nobody in the child waits for the parent's callable."""
        #: Held while the callable is called, so that a vault is asked once for all who need it.
        self._asking: threading.RLock = threading.RLock()

    def _take(self, given: Hidden) -> None:
        """Takes where it comes from, as one of three."""
        self._content: bytes | None = None
        self._path: Path | None = None
        self._function: ProgramCall | None = None
        if isinstance(given.cell_contents, str) and "-----BEGIN" in given.cell_contents:
            self._content = encoded(given.cell_contents, "certificate")
        elif isinstance(given.cell_contents, (bytes, bytearray)):
            self._content = bytes(given.cell_contents)
        elif is_path(given.cell_contents):
            self._path = Path(given.cell_contents)
        elif callable(given.cell_contents):
            self._function = _program_call(given, "certificate")
        else:  # such as MSAL's dict, or a vault's base64: both hold the private key
            raise ConfigurationError(
                "Certificate needs a path, or the bytes of a PEM or PFX file, or a callable that "
                "gives them: decode base64 first"
            )

    def __repr__(self) -> str:
        signer = "" if self._sign is None else ", signed with elsewhere"
        return f"<Certificate from {self._origin}{signer}>"

    @property
    def _origin(self) -> str:
        return "a callable" if self._function is not None else str(self._path or "bytes")

    @property
    def has_key(self) -> bool:
        """Whether it gives the private key itself."""
        return self._sign is None

    def read(self) -> KeyPair | RemoteKey:  # noqa: D102 - as the base says
        version, parsed = self._version(), self._parsed
        if parsed is not None and parsed[0] == version:
            return parsed[1]
        if self._function is None:
            self._parsed = parsed = (version, self._parse())
            return parsed[1]
        with self._turn():
            self._parsed = parsed = self._parsed or (version, self._parse())
            return parsed[1]

    def peek(self) -> Proof | None:  # noqa: D102 - as the base says
        if self._function is None:
            return self.read()
        return None if self._parsed is None else self._parsed[1]

    def reread(self, refused: Proof) -> Proof | None:  # noqa: D102 - as the base says
        if self._function is None:  # a file can change within its time stamp's grain
            self._parsed = None
            return super().reread(refused)
        with self._turn():
            # A vault is not asked where another thread has done so since this one was read. What
            # was refused stays where it cannot answer: it may serve for a while yet.
            if self._parsed is None or self._parsed[1] is refused:
                self._parsed = (None, self._parse())
            return super().reread(refused)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits while another thread calls the callable, which takes as long as that may."""
        from .callables import PATIENCE  # it is there since there is a callable

        with fork_allowed():
            begun = self._asking.acquire(timeout=PATIENCE)
        if not begun:
            raise TokenRequestError(
                f"the callable that gives the certificate has not ended within {PATIENCE:.1f} s: "
                "see what it waits for, and give that an end",
                retryable=True,
            )
        try:
            yield
        finally:
            self._asking.release()

    def _version(self) -> object:
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except (OSError, ValueError) as exc:
            raise unreadable(self._path, "certificate", exc) from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _parse(self) -> KeyPair | RemoteKey:
        content, origin = self._read(), self._origin if self._function or self._path else ""
        origin = f"the certificate from {origin}" if self._function else origin
        origin = origin or "the bytes given"
        with no_fork():
            from .key_pair import parse_key_pair, parse_remote_key

            # The content gets no name here, as a traceback shows what has one.
            if self._sign is not None:
                return parse_remote_key(
                    content.cell_contents,
                    self._sign,
                    algorithm=self._algorithm,
                    send_chain=self._send_chain,
                    origin=origin,
                )
            return parse_key_pair(
                content.cell_contents,
                self._password,
                send_chain=self._send_chain,
                origin=origin,
            )

    def _read(self) -> Hidden:
        if self._function is not None:
            return _content(self._function())
        return Hidden(
            self._content or b"" if self._path is None else read_file(self._path, "certificate")
        )


def _program_call(function: Hidden, what: str) -> ProgramCall:
    with no_fork():
        from .callables import ProgramCall

    return ProgramCall(function, what)


def _signer(sign: Hidden, algorithm: object) -> ProgramCall | None:
    if algorithm not in ("PS256", "RS256"):
        raise ConfigurationError("algorithm= is 'PS256' or 'RS256', as sign= signs")
    if sign.cell_contents is None:
        return None
    if not callable(sign.cell_contents):  # it may be the key
        raise ConfigurationError(
            "sign= is a callable that takes bytes and gives their signature: pass a function"
        )
    return _program_call(sign, "signature")


def _content(given: Hidden) -> Hidden:
    """Gives the bytes of what a callable gave: these, the text of a PEM, or a PFX in base64."""
    if isinstance(given.cell_contents, str):
        if "-----BEGIN" in given.cell_contents:
            return Hidden(encoded(given.cell_contents, "certificate from the callable"))
        try:
            given = Hidden(b64decode("".join(given.cell_contents.split()), validate=True))
        except (binascii.Error, ValueError):
            given = Hidden("")
    if isinstance(given.cell_contents, (bytes, bytearray)) and given.cell_contents:
        return Hidden(bytes(given.cell_contents))
    kind = type(given.cell_contents).__name__
    kind = "nothing, or no text of a PEM or of a PFX in base64" if kind == "str" else f"a {kind}"
    raise ConfigurationError(
        f"the callable that gives the certificate gave {kind}: have it give the bytes of a PEM or "
        "PFX file"
    )
