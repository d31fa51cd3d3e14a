"""What a test can do with the emulator's users, and with what the protected API asks of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from ..identity.clouds import PERSONAL_TENANT
from .authorities import DEFAULT_TENANT, AuthorityKind, tenant_guid
from .controls import new_secret
from .delegation import Delegation
from .errors import EntraError
from .protection import Protection
from .requested_claims import RequestedClaims
from .state import State
from .users import User

__all__ = ["UserControls"]

#: The app that users sign in to, and that calls the API with what it gets.
_FRONT_END = str(uuid.uuid5(uuid.NAMESPACE_URL, "tokenmgr-emulator-front-end"))
_ACCOUNTS = ("managed", "federated", "personal")
_ERRORS = ("interaction_required", "invalid_grant")
_VERSIONS = ("1.0", "2.0")


class UserControls:
    """The emulator's handles for users. Each may be used from any thread, while it serves."""

    client_id: str
    _state: State

    @property
    def refresh_token_lifetime(self) -> float:
        """Seconds for which refresh tokens may go unused that are given out from now on."""
        return self._state.refresh_token_lifetime

    @refresh_token_lifetime.setter
    def refresh_token_lifetime(self, seconds: float) -> None:
        self._state.refresh_token_lifetime = seconds

    def add_user(
        self,
        username: str,
        *,
        tenant: str = DEFAULT_TENANT,
        password: str | None = None,
        account: str = "managed",
    ) -> str:
        """Let a tenant have a user: a new one is at home there, a known one its guest.

        Args:
            username: How they sign in.
            tenant: Where, by its domain or its GUID.
            password: What they type; one of their own when left out, which :meth:`password` tells.
            account: ``managed``, ``federated`` (another service has the password, so that the
                password grant finds none) or ``personal`` (a Microsoft account, which is the
                tenant's guest).

        Returns:
            Their object id (``oid``) in that tenant.

        Raises:
            ValueError: ``account`` is something else.
        """
        if account not in _ACCOUNTS:
            raise ValueError(f"account is one of {', '.join(_ACCOUNTS)}, not {account!r}")
        if account == "personal":
            self._state.users.add(username, PERSONAL_TENANT)
        user = self._state.users.add(username, tenant)
        user.account = account
        if password is not None:
            user.password = password
        return user.object_id(tenant_guid(tenant)) or ""

    def password(self, username: str) -> str:
        """What a user types to sign in.

        Raises:
            KeyError: There is no such user.
        """
        return self._user(username).password

    def mfa_code(self, username: str) -> str:
        """What a user's authenticator shows, always the same.

        Raises:
            KeyError: There is no such user.
        """
        return self._user(username).mfa_code

    def change_password(self, username: str, new: str | None = None) -> str:
        """Give a user a new password. What was granted up to now is refused (50173).

        Returns:
            The new password.

        Raises:
            KeyError: There is no such user.
        """
        user = self._user(username)
        user.password = new or new_secret()
        user.revoke()
        return user.password

    def sign_in(
        self,
        username: str,
        *,
        scopes: Sequence[str] = ("access_as_user",),
        tenant: str | None = None,
        client_id: str | None = None,
        version: str = "2.0",
        lifetime: float | None = None,
        claims: str | None = None,
        policy: str | None = None,
    ) -> str:
        """Let a user sign in at a front end, which calls an app's API with the result.

        Args:
            username: Who. A user that there is not yet is added.
            scopes: The API's own scopes, without its name: the ``scp`` of the token.
            tenant: Where, by its domain or its GUID; left out, the user's home. A user of another
                tenant is its guest from then on.
            client_id: The app whose API it is, which may exchange the token; left out, the first.
            version: ``2.0``: the audience is the app's id; ``1.0``: ``api://{client_id}``.
            lifetime: Seconds that the token lives; as :attr:`token_lifetime` says when left out.
            claims: The claims of an error that asked for more than a password: the user does so.
            policy: The user flow of Azure AD B2C; left out, it is an Entra tenant.

        Returns:
            The access token for the API: what it is to exchange on behalf of the user.

        Raises:
            PermissionError: The user is disabled.
            RuntimeError: The emulator was not started yet.
            ValueError: There are no scopes, no such version, or the claims are no JSON object.
        """
        _check(version, scopes)
        if not self._state.base_url:
            raise RuntimeError("the emulator has no address before it is started")
        token = self._delegation(username, tenant, mfa=_wants_mfa(claims), policy=policy)
        audience = ("" if version == "2.0" else "api://") + (client_id or self.client_id)
        return self._state.signer.access_token(
            token.access_claims(audience, scopes, version=version),
            lifetime=self._state.token_lifetime if lifetime is None else lifetime,
        )

    def id_token(
        self,
        username: str,
        *,
        tenant: str | None = None,
        client_id: str | None = None,
        policy: str | None = None,
    ) -> str:
        """Let a user sign in at an app, which is told so in an ID token, and nothing else.

        Args:
            username: Who. A user that there is not yet is added.
            tenant: Where; see :meth:`sign_in`.
            client_id: The app; left out, the first.
            policy: The user flow of Azure AD B2C; left out, it is an Entra tenant.

        Raises:
            PermissionError: The user is disabled.
            RuntimeError: The emulator was not started yet.
        """
        if not self._state.base_url:
            raise RuntimeError("the emulator has no address before it is started")
        app = client_id or self.client_id
        signed_in = self._delegation(username, tenant, mfa=False, policy=policy, app=app)
        return self._state.signer.sign(
            signed_in.id_claims(profile=True), lifetime=self._state.token_lifetime
        )

    def _delegation(
        self,
        username: str,
        tenant: str | None,
        *,
        mfa: bool,
        policy: str | None = None,
        app: str = _FRONT_END,
    ) -> Delegation:
        user = self._signing_in(username, tenant)
        session = user.begin_session(mfa=mfa)
        kind = AuthorityKind.B2C if policy else AuthorityKind.ENTRA
        where = tenant_guid(tenant) if tenant else user.home_tenant_id
        return Delegation(user, session, self._state.authority(kind, where, policy), app)

    def revoke(self, username: str) -> None:
        """End a user's sessions: what was granted up to now is refused (50173).

        Access tokens that are out live on until they expire, as they do in life.

        Raises:
            KeyError: There is no such user.
        """
        self._user(username).revoke()

    def require_mfa(self, username: str, *, error: str = "interaction_required") -> None:
        """Let a policy want more than a password of a user (50076, with claims).

        A sign-in with those claims satisfies it: see :meth:`sign_in`.

        Args:
            username: Who.
            error: The OAuth 2.0 error: ``interaction_required``, as Microsoft documents it, or
                ``invalid_grant``, as Entra has been seen to answer.

        Raises:
            KeyError: There is no such user.
            ValueError: ``error`` is something else.
        """
        if error not in _ERRORS:
            raise ValueError(f"error is one of {', '.join(_ERRORS)}, not {error!r}")
        user = self._user(username)
        user.mfa_error = error
        user.mfa_policy = str(uuid.uuid4())

    def withdraw_consent(self, username: str, *scopes: str) -> None:
        """Let a user not consent to scopes (65001).

        A sign-in on the page asks them again, and they may say yes.

        Args:
            username: Who.
            *scopes: With their resource, such as ``https://graph.microsoft.com/Mail.Read``; all of
                a resource by its ``/.default``, all there are when left out.

        Raises:
            KeyError: There is no such user.
        """
        user = self._user(username)
        user.withdrawn |= frozenset(scopes or ("*",))
        user.consented = user.consented - frozenset(scopes) if scopes else frozenset()

    def grant_consent(self, username: str) -> None:
        """Let a user consent to everything again, as they do unless told otherwise.

        Raises:
            KeyError: There is no such user.
        """
        self._user(username).withdrawn = frozenset()

    def disable_user(self, username: str) -> None:
        """Block a user (50057) until :meth:`enable_user`.

        Raises:
            KeyError: There is no such user.
        """
        self._user(username).disabled = True

    def enable_user(self, username: str) -> None:
        """Let a user in again.

        Raises:
            KeyError: There is no such user.
        """
        self._user(username).disabled = False

    def remove_user(self, username: str) -> None:
        """Delete a user in every tenant (50034). Who signs in by that name is somebody else.

        Raises:
            KeyError: There is no such user.
        """
        self._state.users.remove(self._user(username))

    def protect_api(
        self,
        *,
        audience: str | None = None,
        scopes: Sequence[str] = (),
        roles: Sequence[str] = (),
    ) -> None:
        """Say what the protected API asks of a token from now on.

        Without this it takes any access token that is good, but for those whose audience is one
        of the apps that are registered: they are for that app alone.

        Args:
            audience: The ``aud`` that it has to have (401 otherwise); None for any.
            scopes: The delegated permissions of which a user's token needs one (403 otherwise).
            roles: The app roles of which an app's own token needs one (403 otherwise). With neither
                ``scopes`` nor ``roles`` no permission is needed.
        """
        self._state.protection = Protection(audience, frozenset(scopes), frozenset(roles))

    def _signing_in(self, username: str, tenant: str | None) -> User:
        user = self._state.users.find(username)
        if user is None or tenant is not None:
            user = self._state.users.add(username, tenant or DEFAULT_TENANT)
        if user.disabled:
            raise PermissionError("AADSTS50057: The user account is disabled.")
        return user

    def _user(self, username: str) -> User:
        user = self._state.users.find(username)
        if user is None:
            raise KeyError(username)
        return user


def _check(version: str, scopes: Sequence[str]) -> None:
    if version not in _VERSIONS:
        raise ValueError(f"version is one of {', '.join(_VERSIONS)}, not {version!r}")
    if isinstance(scopes, str) or not scopes:
        raise ValueError("scopes are a list of at least one, such as ['access_as_user']")


def _wants_mfa(claims: str | None) -> bool:
    try:
        return RequestedClaims.parse(claims).step_up is not None
    except EntraError:
        raise ValueError("claims are the JSON text that an error came with") from None
