"""A user's way through the pages: which one is next, and what they do on it.

What the parameters of a request ask for is told in
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow#request-an-authorization-code
and, where it is OpenID Connect's, in section 3.1.2.1 of its Core.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from enum import Enum

from ..identity.clouds import PERSONAL_TENANT
from .authorities import PLACEHOLDER_TENANTS, Authority, AuthorityKind
from .browsers import Account
from .codes import DeviceCode
from .errors import EntraError
from .requested_claims import RequestedClaims
from .scopes import DelegatedScopes
from .token_request import AuthorizationRequest
from .users import User, UserDirectory

__all__ = ["SignIn", "Step"]


class Step(Enum):
    """What is asked of the user next."""

    PICK = "pick"
    PASSWORD = "password"  # noqa: S105 - the name of a page
    MFA = "mfa"
    CONSENT = "consent"
    DONE = "done"


@dataclass
class SignIn:
    """One sign-in, from the request that began it to its end.

    Attributes:
        authority: Where.
        client_id: The app that they sign in to.
        scopes: What it asks for, of each resource.
        claims: What else it asks for.
        redirect_uri: Where the answer goes; empty for a device.
        request: What their browser brought; None for a device.
        device: Which device waits for them; None for a browser.
        accounts: Who was signed in already, in that browser.
        account: Who they are, once that is known.
        typed: The user name that they typed last.
        another: Whether they want to be nobody of those.
        consented: Whether they have said yes in this sign-in.
        flow: The name that the pages have for it; nobody can guess it.
    """

    authority: Authority
    client_id: str
    scopes: tuple[DelegatedScopes, ...]
    claims: RequestedClaims
    redirect_uri: str = ""
    request: AuthorizationRequest | None = None
    device: DeviceCode | None = None
    accounts: tuple[Account, ...] = ()
    account: Account | None = None
    typed: str = ""
    another: bool = False
    consented: bool = False
    flow: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def __post_init__(self) -> None:
        fitting = self.fitting
        if len(fitting) == 1 and self.prompt not in ("login", "select_account"):
            (self.account,) = fitting

    @property
    def prompt(self) -> str | None:
        """The request's ``prompt``."""
        return self._parameter("prompt")

    @property
    def login_hint(self) -> str:
        """Who the app thinks that they are."""
        return self._parameter("login_hint") or ""

    @property
    def domain_hint(self) -> str:
        """Whose account the app thinks that they have."""
        return self._parameter("domain_hint") or ""

    @property
    def fitting(self) -> tuple[Account, ...]:
        """Those who are signed in, and whom the request may mean."""
        hint = self.login_hint.lower()
        return tuple(each for each in self.accounts if hint in ("", each[0].username.lower()))

    @property
    def step(self) -> Step:
        """What is next."""
        if self.account is None:
            several = len(self.fitting) > 1 or (self.prompt == "select_account" and self.accounts)
            pick = several and not self.another and self.prompt != "login"
            return Step.PICK if pick else Step.PASSWORD
        user, session = self.account
        if self._is_stale(session.started_at):
            return Step.PASSWORD
        if (user.mfa_policy or self.claims.step_up) and not session.mfa:
            return Step.MFA
        return Step.CONSENT if self._asks_for_consent(user) else Step.DONE

    def pick(self, username: str) -> None:
        """Be one of those who are signed in already, or nobody of them."""
        for account in self.accounts:
            if account[0].username == username:
                self.account = account
                return
        self.another = True

    def type_password(self, users: UserDirectory, username: str, password: str) -> None:
        """Sign in.

        Raises:
            EntraError: There is no such user here, or that is not their password.
        """
        self.typed = username.strip()
        user = users.find(self.typed)
        if user is None:
            raise EntraError(50034, tenant=self.authority.tenant)
        if not user.knows(password):
            raise EntraError(50126)
        self.be(user)

    def be(self, user: User) -> None:
        """Be a user, who has typed their password.

        Raises:
            EntraError: They may not sign in here.
        """
        if user.disabled:
            raise EntraError(50057)
        if user.object_id(self._tenant_id_of(user)) is None:
            raise self._foreign(user)
        self.account = (user, user.begin_session(mfa=False))

    def pass_mfa(self, code: str) -> None:
        """Show what the authenticator shows.

        Raises:
            EntraError: It shows something else.
        """
        user, _ = self._known()
        if not secrets.compare_digest(code.strip().encode(), user.mfa_code.encode()):
            raise EntraError(50074)
        self.account = (user, user.begin_session(mfa=True))

    def consent(self) -> None:
        """Let the app have what it asks for."""
        user, _ = self._known()
        for each in self.scopes:
            user.consent(each.resource, frozenset(each.names))
        self.consented = True

    @property
    def tenant_id(self) -> str:
        """The tenant that they sign in to: where the request names none, their own."""
        return self._tenant_id_of(self._known()[0])

    def _known(self) -> Account:
        if self.account is None:
            raise EntraError(50058, detail="no user is signed in")
        return self.account

    def _tenant_id_of(self, user: User) -> str:
        authority = self.authority
        anywhere = authority.kind is AuthorityKind.ENTRA and authority.tenant in PLACEHOLDER_TENANTS
        return user.home_tenant_id if anywhere else authority.tenant_id

    def _foreign(self, user: User) -> EntraError:
        if self.authority.kind is not AuthorityKind.ENTRA:
            return EntraError(50034, tenant=self.authority.tenant)
        personal = user.home_tenant_id == PERSONAL_TENANT
        issuer = "live.com" if personal else f"https://sts.windows.net/{user.home_tenant_id}/"
        tenant, client_id = self.authority.tenant, self.client_id
        return EntraError(50020, issuer=issuer, tenant=tenant, client_id=client_id)

    def _is_stale(self, started_at: float) -> bool:
        max_age = None if self.request is None else self.request.max_age
        if max_age is None:
            return False
        kept = any(session.started_at == started_at for _, session in self.accounts)
        return kept and time.time() - started_at >= max_age

    def _asks_for_consent(self, user: User) -> bool:
        if self.consented or self.authority.kind in (AuthorityKind.B2C, AuthorityKind.ADFS):
            # There an administrator consents, and users are not asked.
            return False
        missing = any(
            not user.consents_to(each.resource, frozenset(each.names)) for each in self.scopes
        )
        return missing or self.prompt == "consent"

    def _parameter(self, name: str) -> str | None:
        return None if self.request is None else self.request.form.get(name)
