"""What the emulator's parts share: the settings that tests turn, and the memory of the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from .authorities import Authority, AuthorityKind
from .browsers import Browsers
from .clients import ClientDirectory
from .codes import AuthorizationCodes, DeviceCodes
from .faults import FaultPlan, Gate
from .identities import Identities
from .protection import Protection
from .recording import RequestLog
from .refresh_tokens import RefreshTokens
from .tokens import TokenSigner
from .users import UserDirectory

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
        refresh_token_lifetime: Seconds for which a refresh token may go unused.
        code_lifetime: Seconds that an authorization code lives.
        device_code_lifetime: Seconds that a user has to type a device's code.
        device_code_interval: Seconds that a device has to wait between its requests.
        protection: What the protected API asks of a token.
        identities: The managed identities of the machine that it stands for.
    """

    signer: TokenSigner
    base_url: str = ""
    token_lifetime: float = 3600
    refresh_in: float | None = None
    latency: float = 0.0
    unknown_resources: set[str] = field(default_factory=set)
    refresh_token_lifetime: float = 90 * 86_400
    code_lifetime: float = 600
    device_code_lifetime: float = 900
    device_code_interval: float = 5
    protection: Protection = field(default_factory=Protection)
    identities: Identities = field(default_factory=lambda: Identities(None))
    clients: ClientDirectory = field(default_factory=ClientDirectory)
    users: UserDirectory = field(default_factory=UserDirectory)
    refresh_tokens: RefreshTokens = field(default_factory=RefreshTokens)
    codes: AuthorizationCodes = field(default_factory=AuthorizationCodes)
    device_codes: DeviceCodes = field(default_factory=DeviceCodes)
    browsers: Browsers = field(default_factory=Browsers)
    log: RequestLog = field(default_factory=RequestLog)
    faults: FaultPlan = field(default_factory=FaultPlan)
    gate: Gate = field(default_factory=Gate)

    def authority(
        self, kind: AuthorityKind, tenant: str = "", policy: str | None = None
    ) -> Authority:
        """The authority of this kind and name, at this emulator."""
        return Authority(kind=kind, base_url=self.base_url, tenant=tenant, policy=policy)
