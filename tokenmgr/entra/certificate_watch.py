"""Tells that an app's certificate is about to end, and takes a new one where there is one."""

from __future__ import annotations

from .._context import Context
from ..errors import TokenManagerError
from ..events import CertificateEnding
from ..identity.credentials import ClientCredential
from ..identity.proofs import KeyPair, RemoteKey

__all__ = ["CertificateWatch"]

_DAY = 86_400.0
#: Days before its end at which it is told, the last one first; 0 is the end itself.
_TOLD_AT = (0.0, 1.0, 7.0, 30.0)
#: So many certificates are remembered to have been told of.
_MOST_REMEMBERED = 64


class CertificateWatch:
    """Watches over the certificate of an app, whatever its tenants.

    Args:
        context: The time, and where events go.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        #: What has been told: a certificate's thumbprint, and at how many days before its end.
        #: Who comes first tells it, since a dict sets what is missing in one step.
        self._told: dict[tuple[str, float], object] = {}

    def newest(
        self, credential: ClientCredential, read: KeyPair | RemoteKey
    ) -> KeyPair | RemoteKey:
        """Gives what was read, or what has taken its place, and tells where that ends soon.

        Args:
            credential: Where it was read.
            read: What was read.

        Raises:
            TokenManagerError: It has ended, and there is no other to be had.
        """
        stage = self._stage(read)
        if stage is None or (stage > 0 and self._is_told(read, stage)):
            return read
        try:
            renewed = credential.reread(read)
        except TokenManagerError:
            if stage <= 0:
                raise
            renewed = None  # it serves for a while yet
        if isinstance(renewed, (KeyPair, RemoteKey)):
            read, stage = renewed, self._stage(renewed)
        if stage is not None:
            self._tell(read, stage)
        return read

    def _stage(self, proof: KeyPair | RemoteKey) -> float | None:
        """Says which of the days before its end it is; None where that is far away."""
        left = proof.ends_at - self._context.clock.wall()
        return next((days for days in _TOLD_AT if left <= days * _DAY), None)

    def _is_told(self, proof: KeyPair | RemoteKey, stage: float) -> bool:
        return (proof.thumbprint, stage) in self._told

    def _tell(self, proof: KeyPair | RemoteKey, stage: float) -> None:
        mine = object()
        if self._told.setdefault((proof.thumbprint, stage), mine) is not mine:
            return
        for oldest in list(self._told)[:-_MOST_REMEMBERED]:
            self._told.pop(oldest, None)
        now = self._context.clock.wall()
        self._context.emit(
            CertificateEnding(now, proof.thumbprint, proof.ends_at, proof.ends_at - now)
        )
