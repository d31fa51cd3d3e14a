"""What a test can do to the emulator while it runs, and what it can ask it afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .certificates import ClientCertificate, client_certificate
from .clients import TOKEN_EXCHANGE_AUDIENCE, Client, FederatedCredential, RegisteredCertificate
from .faults import Fault, Target
from .recording import RecordedRequest
from .state import State

__all__ = ["Controls"]


class Controls:
    """The emulator's handles. Each may be used from any thread, before and while it serves."""

    #: The id of the app that is there from the start, a GUID.
    client_id: str
    _state: State

    # What the answers look like

    @property
    def token_lifetime(self) -> float:
        """Seconds that access tokens live that are issued from now on."""
        return self._state.token_lifetime

    @token_lifetime.setter
    def token_lifetime(self, seconds: float) -> None:
        self._state.token_lifetime = seconds

    @property
    def refresh_in(self) -> float | None:
        """Seconds after which answers suggest to renew; None leaves the suggestion out."""
        return self._state.refresh_in

    @refresh_in.setter
    def refresh_in(self, seconds: float | None) -> None:
        self._state.refresh_in = seconds

    @property
    def latency(self) -> float:
        """Seconds that each token request waits. Nothing else is delayed."""
        return self._state.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._state.latency = seconds

    @property
    def unknown_resources(self) -> set[str]:
        """The resources, such as ``https://graph.microsoft.com``, that no tenant knows (500011)."""
        return self._state.unknown_resources

    @unknown_resources.setter
    def unknown_resources(self, resources: set[str]) -> None:
        self._state.unknown_resources = set(resources)

    # Trouble

    def fail_next(
        self,
        n: int = 1,
        *,
        status: int = 500,
        error: str | None = None,
        error_codes: Sequence[int] = (),
        retry_after: float | str | None = None,
        body: str | bytes | None = None,
        disconnect: bool = False,
        grant_type: str | None = None,
        scope: str | None = None,
        username: str | None = None,
        path: str = "token",
    ) -> None:
        """Let the next ``n`` requests that match fail.

        Args:
            n: How many.
            status: The HTTP status of the answer.
            error: The OAuth 2.0 error code of the answer, such as ``invalid_client``.
            error_codes: The AADSTS numbers of the answer.
            retry_after: The answer's ``Retry-After``: seconds, or the text of an HTTP date.
            body: Send this instead of the JSON: text or bytes that no client understands.
            disconnect: Close the connection without any answer.
            grant_type: Only requests for this grant.
            scope: Only requests for this scope, as it is sent.
            username: Only requests for this user: by their assertion, their refresh token, or for
                ``graph`` their access token.
            path: What fails: ``token``, ``discovery``, ``keys``, ``graph``, ``authorize``,
                ``devicecode``, ``userrealm`` or ``sidecar`` (see :meth:`sidecar`).

        Raises:
            ValueError: ``path`` is something else.
        """
        fault = Fault(status, error, error_codes, retry_after, body, disconnect=disconnect)
        target = Target(path, grant_type, scope, self._name_of(username))
        self._state.faults.add(target, fault, n)

    def recover(self) -> None:
        """Cancel the failures that :meth:`fail_next` has left."""
        self._state.faults.clear()

    def pause(self) -> None:
        """Let token requests wait from now on, until :meth:`resume` or ``close``."""
        self._state.gate.pause()

    def resume(self) -> None:
        """Let the token requests that wait be answered, and those to come."""
        self._state.gate.resume()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """:meth:`pause` for as long as the block runs."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def revoke_tokens(self) -> None:
        """Let the protected API refuse all access tokens that were issued up to now.

        Of clients that say that they answer claims challenges (``CP1``), it asks for newer ones by
        such a challenge, as continuous access evaluation does.
        """
        self._state.signer.revoke_all()

    def roll_keys(self, *, keep: bool = True) -> None:
        """Sign tokens with a new key from now on.

        Args:
            keep: Whether the keys before it are published still, as they are while tokens are
                about that were signed with them; otherwise they are withdrawn at once.
        """
        self._state.signer.roll(keep=keep)

    # What it was asked

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request in the order of arrival, as of now."""
        return self._state.log.snapshot()

    def count(
        self,
        grant_type: str | None = None,
        scope: str | None = None,
        username: str | None = None,
    ) -> int:
        """How many token requests have arrived, whatever became of them."""
        return self._state.log.count(
            grant_type=grant_type, scope=scope, username=self._name_of(username)
        )

    @property
    def api_calls(self) -> int:
        """How many calls of the protected API were answered with 200."""
        return self._state.log.count(kind="graph", status=200)

    def wait_for_requests(
        self,
        n: int,
        timeout: float = 10.0,
        *,
        grant_type: str | None = None,
        scope: str | None = None,
        username: str | None = None,
    ) -> None:
        """Wait until ``n`` token requests have arrived, answered or not.

        Raises:
            TimeoutError: Fewer had after ``timeout`` seconds.
        """
        self._state.log.wait_for(
            n, timeout, grant_type=grant_type, scope=scope, username=self._name_of(username)
        )

    def clear(self) -> None:
        """Forget the requests so far."""
        self._state.log.clear()

    # Who may ask

    def add_client(
        self,
        client_id: str | None = None,
        *,
        secret: str | None = None,
        certificate: str | bytes | None = None,
        federated: FederatedCredential | None = None,
        roles: Sequence[str] = (),
        redirect_uris: Sequence[str] = (),
        public: bool = False,
        accepted_version: str = "2.0",
        optional_claims: Sequence[str] = (),
    ) -> str:
        """Register an app, or replace the one of this id.

        Args:
            client_id: Its id; a new GUID when left out.
            secret: Its client secret.
            certificate: Its public certificate in PEM. A private key beside it is not looked at.
            federated: An issuer whose assertions it may show.
            roles: The ``roles`` of its tokens.
            redirect_uris: Where its users may be sent back to. See :meth:`add_redirect_uri`.
            public: Whether it is an app on a user's machine, which has no secret to show, and is
                refused when it shows one with a user's sign-in (700025).
            accepted_version: The version of the tokens that it takes as an API, ``1.0`` or ``2.0``.
            optional_claims: What they are to have besides: ``idtyp``.

        Returns:
            Its id.
        """
        client = self._state.clients.add(
            client_id,
            secret=secret,
            certificates=() if certificate is None else (certificate,),
            federated=() if federated is None else (federated,),
            roles=roles,
            redirect_uris=redirect_uris,
            public=public,
            accepted_version=accepted_version,
            optional_claims=optional_claims,
        )
        return client.client_id

    def add_redirect_uri(self, uri: str, *, client_id: str | None = None) -> None:
        """Let an app's users be sent back to an address. An app has none until it is told one.

        Args:
            uri: The address, by each of its letters; at ``localhost`` and 127.0.0.1 any port does.
            client_id: The app; the one from the start when left out.

        Raises:
            KeyError: There is no such app.
        """
        self._client(client_id).redirect_uris.append(uri)

    def add_certificate(self, certificate: str | bytes, *, client_id: str | None = None) -> None:
        """Register a public certificate, in PEM, with an app that there is already.

        Raises:
            KeyError: There is no such app.
        """
        self._client(client_id).certificates.append(RegisteredCertificate(certificate))

    def remove_certificates(self, *, client_id: str | None = None) -> None:
        """Forget every certificate of an app.

        Raises:
            KeyError: There is no such app.
        """
        self._client(client_id).certificates.clear()

    def add_federated_issuer(
        self,
        issuer: str,
        subject: str,
        public_key: str | bytes | dict[str, Any],
        *,
        audience: str = TOKEN_EXCHANGE_AUDIENCE,
        client_id: str | None = None,
    ) -> None:
        """Let an app show the assertions of another issuer, as workload identity does.

        Args:
            issuer: Their ``iss``.
            subject: Their ``sub``.
            public_key: What verifies them: PEM, or a JSON web key.
            audience: Their ``aud``.
            client_id: The app; the one from the start when left out.

        Raises:
            KeyError: There is no such app.
        """
        credential = FederatedCredential(issuer, subject, public_key, audience)
        self._client(client_id).federated.append(credential)

    @property
    def client_secret(self) -> str:
        """The secret of the app that is there from the start, as it is now."""
        return self._client(None).secret or ""

    def rotate_secret(self, new: str | None = None, *, client_id: str | None = None) -> str:
        """Give an app a new secret. The old one stops working at once (7000215).

        Returns:
            The new secret.

        Raises:
            KeyError: There is no such app.
        """
        client = self._client(client_id)
        client.secret = new or new_secret()
        client.secret_expired = False
        return client.secret

    def expire_secret(self, *, client_id: str | None = None) -> None:
        """Let an app's secret be expired (7000222) until it is rotated.

        Raises:
            KeyError: There is no such app.
        """
        self._client(client_id).secret_expired = True

    @staticmethod
    def make_certificate(
        common_name: str = "tokenmgr-test-app",
        *,
        password: str | None = None,
        chain: bool = False,
        valid_days: float = 30.0,
    ) -> ClientCertificate:
        """A new certificate for an app. See :func:`tokenmgr.emulator.client_certificate`."""
        return client_certificate(
            common_name, password=password, chain=chain, valid_days=valid_days
        )

    def _name_of(self, username: str | None) -> str | None:
        """The name as the log has it, for one that was written in another case."""
        user = self._state.users.find(username) if username else None
        return user.username if user else username

    def _client(self, client_id: str | None) -> Client:
        client = self._state.clients.find(client_id or self.client_id)
        if client is None:
            raise KeyError(client_id)
        return client


def new_secret() -> str:
    """A client secret of about the length of Entra's."""
    return secrets.token_urlsafe(30)
