"""What a credential reads: the proof that is sent to the service."""

from __future__ import annotations

from .._runtime.secrecy import Unpicklable
from .._runtime.values import Value

__all__ = ["KeyPair", "NoProof", "Proof", "SecretText", "SignedAssertion"]


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


class NoProof(Value):
    """What a public client has in place of a proof (RFC 6749, section 2.1)."""

    text: str = ""


#: What a credential reads.
Proof = SecretText | SignedAssertion | KeyPair | NoProof
