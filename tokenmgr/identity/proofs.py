"""What a credential reads: the proof that is sent to the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._runtime.secrecy import Hidden, Unpicklable
from .._runtime.values import Value

if TYPE_CHECKING:
    from .callables import ProgramCall

__all__ = [
    "AssertionMaker",
    "KeyPair",
    "NoProof",
    "Proof",
    "RemoteKey",
    "SecretText",
    "SignedAssertion",
]


class SecretText(Value, Unpicklable):
    """A client secret, as it was read."""

    _hidden = frozenset({"text"})

    text: str


class SignedAssertion(Value, Unpicklable):
    """A client assertion that somebody else has signed (RFC 7523, section 2.2)."""

    _hidden = frozenset({"text"})

    text: str


class KeyPair(Value, Unpicklable):
    """A private key with its certificates, in PEM."""

    _hidden = frozenset({"private_key", "certificates"})

    private_key: str
    #: The leaf first; behind it what issued it, where the chain is to be sent.
    certificates: tuple[str, ...]
    #: The leaf's SHA-1 in hexadecimal, by which older services look keys up.
    thumbprint: str
    #: When the leaf ends, in seconds since 1970.
    ends_at: float = float("inf")


class RemoteKey(Value, Unpicklable):
    """A certificate, whose private key signs where it is, and is handed to nobody."""

    _hidden = frozenset({"certificates", "sign"})

    #: As those of a :class:`KeyPair`.
    certificates: tuple[str, ...]
    #: As there.
    thumbprint: str
    ends_at: float
    #: How it signs (RFC 7518, section 3.1): ``PS256`` or ``RS256``.
    algorithm: str
    #: Whether the certificates are sent along.
    send_chain: bool
    #: Signs bytes.
    sign: ProgramCall


class AssertionMaker(Value, Unpicklable):
    """What makes an assertion for one request, once it is known which."""

    _hidden = frozenset({"make", "unlike"})

    #: Makes one.
    make: ProgramCall
    #: Whether that is called with what MSAL says of the request.
    wants_context: bool
    #: The one that the service has just refused; None when it has refused none.
    unlike: Hidden | None = None


class NoProof(Value):
    """What a public client has in place of a proof (RFC 6749, section 2.1)."""

    text: str = ""


#: What a credential reads.
Proof = SecretText | SignedAssertion | KeyPair | RemoteKey | AssertionMaker | NoProof
