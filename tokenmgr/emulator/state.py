"""What the emulator's parts share: the settings that tests turn, and the memory of the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from .authorities import Authority, AuthorityKind
from .clients import ClientDirectory
from .faults import FaultPlan, Gate
from .recording import RequestLog
from .tokens import TokenSigner

__all__ = ["State"]


@dataclass
class State:
    """Everything that outlives one request.

    Settings are read once per request, and each is one attribute: setting them from another
    thread needs no lock.

    Attributes:
        base_url: The emulator's address, without a slash at its end; empty before it has one.
        signer: What signs its tokens.
        token_lifetime: Seconds that an access token lives.
        refresh_in: Seconds after which the answer suggests to renew; None suggests nothing.
        latency: Seconds that each token request waits before it is looked at.
        unknown_resources: The resources that no tenant knows.
    """

    signer: TokenSigner
    base_url: str = ""
    token_lifetime: float = 3600
    refresh_in: float | None = None
    latency: float = 0.0
    unknown_resources: set[str] = field(default_factory=set)
    clients: ClientDirectory = field(default_factory=ClientDirectory)
    log: RequestLog = field(default_factory=RequestLog)
    faults: FaultPlan = field(default_factory=FaultPlan)
    gate: Gate = field(default_factory=Gate)

    def authority(
        self, kind: AuthorityKind, tenant: str = "", policy: str | None = None
    ) -> Authority:
        """The authority of this kind and name, at this emulator."""
        return Authority(kind=kind, base_url=self.base_url, tenant=tenant, policy=policy)
