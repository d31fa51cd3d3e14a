"""A local Microsoft Entra for tests, demos and first steps.

::

    from tokenmgr.emulator import EntraEmulator

    with EntraEmulator() as entra:
        ...  # entra.authority(), entra.client_id, entra.client_secret, entra.ca_file

It needs libraries that the rest of tokenmgr does not: ``pip install 'tokenmgr[emulator]'``.
"""

from __future__ import annotations

try:
    import aiohttp  # noqa: F401
    import authlib  # noqa: F401
    import joserfc  # noqa: F401
    import trustme  # noqa: F401
except ImportError as _missing:
    raise ImportError(
        f"tokenmgr.emulator needs {_missing.name}: pip install 'tokenmgr[emulator]'",
        name=_missing.name,
    ) from _missing

from .certificates import ClientCertificate, client_certificate
from .clients import FederatedCredential
from .recording import RecordedRequest
from .server import EntraEmulator
from .sidecar import EmulatedSidecar
from .sidecar_options import SidecarApi

__all__ = [
    "ClientCertificate",
    "EmulatedSidecar",
    "EntraEmulator",
    "FederatedCredential",
    "RecordedRequest",
    "SidecarApi",
    "client_certificate",
]
