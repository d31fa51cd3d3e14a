"""Who gives the tokens of a program that was told nothing: what azure-identity finds here."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..._runtime.forks import no_fork
from ...errors import ConfigurationError
from .azure import AzureCredential
from .base import SourceCredential
from .managed_identity import ManagedIdentity

__all__ = ["default_credential"]

_logger = logging.getLogger("tokenmgr")

#: What azure-identity reads of it, and what of that is a managed identity alone.
_CHOICE, _MANAGED = "AZURE_TOKEN_CREDENTIALS", "managedidentitycredential"


def default_credential(environ: Mapping[str, str]) -> SourceCredential:
    """Gives what ``AZURE_TOKEN_CREDENTIALS`` names, or azure-identity's DefaultAzureCredential.

    Which one it is, a line of the log says.

    Args:
        environ: The variables, such as ``os.environ``.

    Raises:
        ConfigurationError: azure-identity is not installed, or the variable names nothing of its.
    """
    choice = environ.get(_CHOICE, "").strip()
    found: SourceCredential
    if choice.lower() == _MANAGED:
        found = ManagedIdentity(client_id=environ.get("AZURE_CLIENT_ID", "").strip() or None)
    else:
        found = _of_azure_identity(choice)
    _logger.info("no secret is set, and tokens come from %r", found)
    return found


def _of_azure_identity(choice: str) -> SourceCredential:
    try:
        with no_fork():
            from azure.identity import DefaultAzureCredential
    except ImportError:
        raise ConfigurationError(
            "nothing proves who the app is: set AZURE_CLIENT_SECRET, or "
            "AZURE_CLIENT_CERTIFICATE_PATH, or AZURE_FEDERATED_TOKEN_FILE; or install "
            "azure-identity for its DefaultAzureCredential; or set AZURE_TOKEN_CREDENTIALS to "
            "ManagedIdentityCredential. A public client, which signs users in, is made by "
            "TokenRegistry(client_id=, authority=)"
        ) from None
    try:
        made = DefaultAzureCredential()
    except ValueError:
        raise ConfigurationError(
            "azure-identity does not take AZURE_TOKEN_CREDENTIALS, or another of its variables, as "
            "it is set: AZURE_TOKEN_CREDENTIALS is dev, prod, or the name of one credential"
        ) from None
    return AzureCredential(made, chosen_by=f"{_CHOICE}={choice}" if choice else "")
