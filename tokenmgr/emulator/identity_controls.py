"""What a test can do with the identities of the machine that the emulator stands for."""

from __future__ import annotations

import uuid

from .authorities import DEFAULT_TENANT, AuthorityKind, tenant_guid
from .clients import TOKEN_EXCHANGE_AUDIENCE
from .controls import Controls
from .identities import HOSTS, ManagedIdentity
from .recording import RecordedRequest

__all__ = ["IdentityControls", "new_identity"]


class IdentityControls(Controls):
    """The emulator's handles for managed identities. Each may be used from any thread."""

    def identity_environment(self, host: str = "app_service") -> dict[str, str]:
        """The variables of a program that runs on a machine of Azure's, with an identity.

        Their endpoint answers by plain http from the first call on. Azure Arc's writes the files
        that it names into a folder of the emulator's; MSAL reads them where Arc has them.

        Args:
            host: ``app_service``, ``vm`` or ``arc``.

        Raises:
            ValueError: ``host`` is something else.
            RuntimeError: The emulator is not running.
        """
        if host not in HOSTS:
            raise ValueError(f"host is one of {', '.join(HOSTS)}, not {host!r}")
        return self._identity_endpoints(host)

    def _identity_endpoints(self, host: str) -> dict[str, str]:
        raise NotImplementedError

    @property
    def system_identity(self) -> ManagedIdentity | None:
        """The machine's own identity, by its names; None where it has none."""
        return self._state.identities.system

    def remove_system_identity(self) -> None:
        """Let the machine have no identity of its own."""
        self._state.identities.system = None

    def add_identity(
        self, client_id: str | None = None, *, resource_id: str | None = None
    ) -> ManagedIdentity:
        """Let the machine have one more identity, which a user has assigned.

        Args:
            client_id: Its client id; a new GUID when left out.
            resource_id: Its resource id; one of its own when left out.

        Returns:
            The identity, by its three names.
        """
        identity = new_identity(client_id or str(uuid.uuid4()), resource_id)
        self._state.identities.assign(identity)
        return identity

    def trust_identity(
        self,
        identity: ManagedIdentity,
        *,
        client_id: str | None = None,
        audience: str = TOKEN_EXCHANGE_AUDIENCE,
    ) -> None:
        """Let an app show a managed identity's tokens instead of a secret.

        Args:
            identity: The identity, such as :attr:`system_identity`.
            client_id: The app; the one from the start when left out.
            audience: Whom the tokens are for.

        Raises:
            KeyError: There is no such app.
        """
        issuer = self._state.authority(AuthorityKind.ENTRA, DEFAULT_TENANT).issuer
        keys: object = self._state.signer.public_keys()["keys"]
        key = keys[0] if isinstance(keys, list) else {}
        self.add_federated_issuer(
            issuer, identity.object_id, key, audience=audience, client_id=client_id
        )

    @property
    def identity_requests(self) -> tuple[RecordedRequest, ...]:
        """What the endpoints of managed identities were asked, in the order of arrival.

        Azure Arc's is asked twice for each token.
        """
        return tuple(each for each in self.requests if each.kind == "identity")


def new_identity(client_id: str, resource_id: str | None = None) -> ManagedIdentity:
    """An identity in the tenant that is there from the start."""
    tenant = tenant_guid(DEFAULT_TENANT)
    # As the signer has it in the app's tokens.
    object_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{client_id}"))
    if resource_id is None:
        resource_id = (
            f"/subscriptions/{tenant}/resourcegroups/tests/providers"
            f"/Microsoft.ManagedIdentity/userAssignedIdentities/{client_id}"
        )
    return ManagedIdentity(client_id, object_id, resource_id)
