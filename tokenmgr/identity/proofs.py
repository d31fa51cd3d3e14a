"""What a credential reads: the proof that is sent to the service."""

from __future__ import annotations

from dataclasses import dataclass, field

from .._runtime.secrecy import Unpicklable

__all__ = ["KeyPair", "Proof", "SecretText", "SignedAssertion"]


@dataclass(frozen=True)
class SecretText(Unpicklable):
    """A client secret, as it was read."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class SignedAssertion(Unpicklable):
    """A client assertion that somebody else has signed (RFC 7523, section 2.2)."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class KeyPair(Unpicklable):
    """A private key with its certificates, in PEM."""

    private_key: str = field(repr=False)
    #: The leaf first; behind it what issued it, where the chain is to be sent.
    certificates: tuple[str, ...] = field(repr=False)
    #: The leaf's SHA-1 in hexadecimal, by which older services look keys up.
    thumbprint: str


#: What a credential reads.
Proof = SecretText | SignedAssertion | KeyPair
