"""What MSAL calls for an assertion as it is about to send one.

A callable of the program's own makes it, or it is built here, and signed where the key is.
"""

from __future__ import annotations

import json
import time
import uuid
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import ConfigurationError, InvalidCredentialError
from ..identity.authority import Authority
from ..identity.proofs import AssertionMaker, RemoteKey
from ..identity.reading import checked_text

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from jwt.algorithms import RSAAlgorithm

__all__ = ["AssertionCall"]

#: Seconds that an assertion which is signed here serves, as MSAL has it.
_LIFETIME = 600


class AssertionCall(Unpicklable):
    """Makes the assertion of one request.

    Args:
        proof: What makes or signs it.
        authority: Whom it is for.
        claims: What the app adds to those that it signs, as JSON, hidden; empty when nothing.
        seconds: Says how many seconds are left for it.
    """

    def __init__(
        self,
        proof: RemoteKey | AssertionMaker,
        authority: Authority,
        claims: Hidden,
        seconds: Callable[[], float],
    ) -> None:
        self._proof = proof
        self._authority = authority
        self._claims = claims
        self._seconds = seconds
        #: What was made; None when nothing was.
        self.text: Hidden | None = None
        #: Whether a callable has given the assertion again that was just refused.
        self.repeats: bool = False

    def __call__(self, context: dict[str, str]) -> str:
        """Makes it.

        Args:
            context: What MSAL says of the request: ``client_id``, ``token_endpoint``, and perhaps
                ``fmi_path``.

        Raises:
            TokenManagerError: There is none.
        """
        proof = self._proof
        if isinstance(proof, RemoteKey):
            made = _signed(proof, self._claims_for(context), self._authority, self._seconds())
        else:
            made = self._made(proof, context)
        self.text = made
        return str(made.cell_contents)

    def _made(self, maker: AssertionMaker, context: dict[str, str]) -> Hidden:
        tenant = self._authority.tenant
        told = context | ({} if tenant is None else {"tenant": tenant})
        args = (told,) if maker.wants_context else ()
        made = checked_text(maker.make(*args, seconds=self._seconds()), "client assertion")
        if maker.unlike is not None and made.cell_contents == maker.unlike.cell_contents:
            self.repeats = True
            raise InvalidCredentialError("the assertion is the one that was refused")
        return made

    def _claims_for(self, context: dict[str, str]) -> Hidden:
        now = int(time.time())
        own = {
            "aud": context["token_endpoint"],
            "iss": context["client_id"],
            "sub": context["client_id"],
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now,
            "exp": now + _LIFETIME,
        }
        return Hidden((json.loads(self._claims.cell_contents or "{}")) | own)


def _signed(key: RemoteKey, claims: Hidden, authority: Authority, seconds: float) -> Hidden:
    """Builds a JWT, and has it signed where the key is (RFC 7515, section 5.1).

    See "Microsoft identity platform application authentication certificate credentials" on
    Microsoft Learn.
    """
    from cryptography.x509 import load_pem_x509_certificate
    from jwt.api_jws import PyJWS

    if authority.kind == "adfs" and key.algorithm != "RS256":
        raise ConfigurationError(
            "AD FS takes assertions that are signed by RS256 alone: have sign= sign so, and pass "
            "algorithm='RS256' to the Certificate"
        )
    chain = [load_pem_x509_certificate(each.encode()) for each in key.certificates]
    writer = PyJWS(algorithms=[])
    writer.register_algorithm(key.algorithm, _algorithm(key, seconds))
    return Hidden(
        writer.encode(
            json.dumps(claims.cell_contents, separators=(",", ":")).encode(),
            chain[0].public_key(),  # type: ignore[arg-type] # which verifies what is signed
            algorithm=key.algorithm,
            headers=_headers(key, chain),
        )
    )


def _headers(key: RemoteKey, chain: list[Certificate]) -> dict[str, Any]:
    """Names the certificate, as MSAL does: by SHA-256 with PS256, and by SHA-1 with RS256."""
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256
    from cryptography.hazmat.primitives.serialization import Encoding
    from jwt.utils import base64url_encode

    pss = key.algorithm == "PS256"
    digest = chain[0].fingerprint(SHA256() if pss else SHA1())  # noqa: S303 - a name, not a proof
    name = "x5t#S256" if pss else "x5t"
    headers: dict[str, Any] = {name: base64url_encode(digest).decode()}
    if key.send_chain:
        headers["x5c"] = [b64encode(each.public_bytes(Encoding.DER)).decode() for each in chain]
    return headers


def _algorithm(key: RemoteKey, seconds: float) -> RSAAlgorithm:
    """Makes an algorithm of PyJWT's that signs elsewhere, and verifies here what comes of it."""
    from jwt.algorithms import RSAAlgorithm, RSAPSSAlgorithm

    kind: Any = RSAPSSAlgorithm if key.algorithm == "PS256" else RSAAlgorithm

    class SignsElsewhere(kind):  # type: ignore[misc]  # one of the two
        def sign(self, msg: bytes, public_key: Any) -> bytes:
            given = key.sign(msg, seconds=seconds)
            if not isinstance(given.cell_contents, (bytes, bytearray)):
                raise ConfigurationError(
                    f"sign= gave a {type(given.cell_contents).__name__}, and not the signature as "
                    "bytes: decode it first"
                )
            signature = bytes(given.cell_contents)
            if not self.verify(msg, public_key, signature):
                raise InvalidCredentialError(_misfit(key, msg, public_key, signature))
            return signature

    algorithm: RSAAlgorithm = SignsElsewhere(RSAAlgorithm.SHA256)
    return algorithm


def _misfit(key: RemoteKey, msg: bytes, public_key: Any, signature: bytes) -> str:
    from jwt.algorithms import RSAAlgorithm, RSAPSSAlgorithm

    kind, other = (
        (RSAAlgorithm, "RS256") if key.algorithm == "PS256" else (RSAPSSAlgorithm, "PS256")
    )
    if kind(kind.SHA256).verify(msg, public_key, signature):
        return f"sign= signs by {other}: pass algorithm={other!r} to the Certificate"
    return (
        f"what sign= gave is no {key.algorithm} signature by the key of the certificate "
        f"{key.thumbprint.upper()}: give the certificate of that key, and have sign= hash what it "
        "is given with SHA-256, once"
    )
