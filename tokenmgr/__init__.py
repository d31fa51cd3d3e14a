"""tokenmgr keeps Microsoft Entra access tokens ready for the programs that need them.

Nothing heavy is imported here: ``msal`` and ``requests`` arrive with the first fetch.
"""

from .authority import Authority
from .credentials import Certificate, ClientAssertion, ClientSecret, WorkloadIdentity
from .errors import (
    AuthorityError,
    ConfigurationError,
    ConsentRequiredError,
    HostNotAllowedError,
    InteractionRequiredError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    SidecarError,
    StoreError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from .manager import AccessTokenManager
from .policy import RefreshPolicy
from .registry import TokenRegistry
from .token import AccessToken, TokenKey, TokenSource

__version__ = "0.1.0.dev0"

__all__ = [
    "AccessToken",
    "AccessTokenManager",
    "Authority",
    "AuthorityError",
    "Certificate",
    "ClientAssertion",
    "ClientSecret",
    "ConfigurationError",
    "ConsentRequiredError",
    "HostNotAllowedError",
    "InteractionRequiredError",
    "InvalidCredentialError",
    "InvalidScopeError",
    "RefreshPolicy",
    "ServiceUnavailableError",
    "SidecarError",
    "StoreError",
    "ThrottledError",
    "TokenKey",
    "TokenManagerError",
    "TokenRegistry",
    "TokenRequestError",
    "TokenSource",
    "TokenTimeoutError",
    "WorkloadIdentity",
]
