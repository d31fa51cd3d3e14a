"""Any credential of azure-core's as a source of tokens: one request for all who ask.

See ``azure.core.credentials`` and ``azure.core.credentials_async``. Nothing of them is imported:
what a credential is its methods tell.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import threading
from typing import Any
from weakref import WeakSet

from ..._runtime.forks import renew_in_child
from ..._runtime.secrecy import Hidden
from ..._runtime.stack import handled_now, let_interruptions_pass
from ...errors import ConfigurationError
from ...identity.authority import Authority
from ...token import AccessToken
from ..answers import Answer, token_from_answer
from .azure_errors import error_of
from .base import Asked, SourceCredential, checked_text, this_user_here
from .event_loop import OwnLoop

__all__ = ["AzureCredential"]

#: The variables by which azure-identity tells who it is, and whom it asks; then those by which az
#: and azd find who has signed in.
_TELLING = (
    *("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_USERNAME", "AZURE_TOKEN_CREDENTIALS"),
    *("AZURE_AUTHORITY_HOST", "AZURE_CONFIG_DIR", "AZD_CONFIG_DIR", "HOME", "USERPROFILE"),
)


class AzureCredential(SourceCredential):
    """Any credential of azure-core's, such as those of azure-identity, sync or async.

    It is the registry's credential, without client id and authority:
    ``TokenRegistry(credential=AzureCredential(DefaultAzureCredential()))``. Whoever has signed in
    with ``az login``, a broker, a pipeline or a pod's identity works as before; their tokens are
    asked for once for all callers, renewed in the background, and shared by a ``store=`` where
    ``encryption_key=`` is given. An asynchronous credential runs in an event loop of its own, and
    is closed with the last registry that has it; others are their owner's to close.

    Claims, continuous access evaluation and the tenant of ``registry.tenant(…)`` are passed on.
    The credential's own cache comes before it is asked anew, where it has one. What takes longer
    than the registry's ``timeout=`` and 5 s more is asked beside that: give slow ones more.

    Example:
        >>> from tokenmgr import AzureCredential, TokenRegistry
        >>> from azure.identity import DefaultAzureCredential
        >>> tokens = TokenRegistry(credential=AzureCredential(DefaultAzureCredential()))
        >>> tokens
        <TokenRegistry of AzureCredential(DefaultAzureCredential)>

    Args:
        credential: What has ``get_token_info()`` or ``get_token()``.
        name: Whose tokens these are in a ``store=`` that several machines or programs share:
            workers with the same name take each other's. Left out, they are shared by workers of
            this machine and this user of it alone, with the same home and the same variables that
            say who azure-identity, ``az`` and ``azd`` are. Who signs in there as somebody else has
            the tokens of before in a store until they end: give each a name.
        chosen_by: What has chosen the credential, for its repr.

    Raises:
        ConfigurationError: It has no such method, or the name is no text.
    """

    grant = "azure_credential"
    has_tenants = True

    def __init__(self, credential: Any, *, name: str | None = None, chosen_by: str = "") -> None:
        asks = [getattr(credential, each, None) for each in ("get_token_info", "get_token")]
        if isinstance(credential, type) or not any(map(callable, asks)):
            raise ConfigurationError(
                "AzureCredential takes a credential of azure-core's, which has get_token(), such "
                "as DefaultAzureCredential()"
            )
        self._given = credential
        self._said = type(credential).__name__
        self._shown = ", ".join(filter(None, (self._said, chosen_by)))
        self.authority: Authority = Authority("azure-credential", "given")
        whose = _here() if name is None else checked_text("name", name)
        self.name: str = f"{self._said} of {whose}"
        self._loop = OwnLoop()
        #: Who has it, for as long as they are there.
        self._owners: WeakSet[object] = WeakSet()
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew; the registries of the parent are the child's too."""
        #: Guards which registries have it.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"AzureCredential({self._shown})"

    def fetch(self, asked: Asked) -> AccessToken:  # noqa: D102 - as the base says
        handled = handled_now()
        try:
            given = self._ask(asked)
        except Exception as exc:  # noqa: BLE001 - it is anybody's code
            let_interruptions_pass(exc, handled)
            error = error_of(exc.with_traceback(None), repr(self), asked.claims)
        else:
            return _token(given, asked, repr(self))
        # Anew, without what led to it: its frames hold requests, with secrets in them.
        raise error

    def _ask(self, asked: Asked) -> Hidden:
        options: dict[str, Any] = {"claims": asked.claims, "tenant_id": asked.tenant}
        options = {name: value for name, value in options.items() if value is not None}
        if asked.cae:
            options["enable_cae"] = True
        ask, given = getattr(self._given, "get_token_info", None), {"options": options}
        if not callable(ask):
            ask, given = self._given.get_token, options
        if inspect.iscoroutinefunction(ask):
            return self._loop.run(ask(*asked.scopes, **given), asked.seconds)
        answer = Hidden(ask(*asked.scopes, **given))
        if inspect.isawaitable(answer.cell_contents):  # what is decorated does not always say so
            return self._loop.run(answer.cell_contents, asked.seconds)
        return answer

    def hold(self, owner: object) -> None:  # noqa: D102 - as the base says
        with self._lock:
            self._owners.add(owner)

    def let_go(self, owner: object) -> None:  # noqa: D102 - as the base says
        with self._lock:
            held = owner in self._owners
            self._owners.discard(owner)
            last = held and not self._owners
        close = getattr(self._given, "close", None)
        if last:
            self._loop.close(close() if inspect.iscoroutinefunction(close) else None)


def _here() -> str:
    """Tells this user of this machine from others, by no name: one may be a person's."""
    said = [this_user_here(), *(f"{name}={os.environ.get(name)}" for name in _TELLING)]
    return hashlib.sha256("\n".join(said).encode(errors="surrogateescape")).hexdigest()[:32]


def _token(given: Hidden, asked: Asked, shown: str) -> AccessToken:
    """Makes the token of azure-core's; its repr shows it, and so it is hidden."""
    now, ends, due = asked.now, _time(given, "expires_on"), _time(given, "refresh_on")
    answer = Answer(
        {
            "access_token": getattr(given.cell_contents, "token", None),
            "token_type": getattr(given.cell_contents, "token_type", None),
            "expires_in": -1 if ends is None else ends - now,
        }
    )
    token = token_from_answer(answer, asked_at=now, scopes=asked.scopes, host=shown)
    # One out of the credential's own cache may be due already, and would be for ever.
    return token if due is None or due <= now else token._replace(refresh_at=due)


def _time(given: Hidden, name: str) -> float | None:
    value = getattr(given.cell_contents, name, None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an int of any size
        return None
