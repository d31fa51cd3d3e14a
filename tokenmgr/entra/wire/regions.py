"""Entra's regional hosts, where an app's own tokens may be asked for without leaving a region.

MSAL decides on a region anew in each application that it makes, of which there is one for each
fetch here: it would ask the machine's metadata service each time, and warn of whatever does not
agree. So what it does is done here, once; see "Resources and regional endpoints" of MSAL.NET on
Microsoft Learn.
"""

from __future__ import annotations

import logging
import os
import threading
from urllib.parse import urlsplit

from ..._runtime.forks import no_fork, renew_in_child
from ...errors import ConfigurationError
from ...identity.authority import Authority
from ...identity.clouds import CLOUDS, checked_region, cloud_of, is_region

__all__ = ["RegionChoice", "chosen_region", "region_of", "regional_host", "regional_url"]

#: A region's name, True where it is to be found out, None for no region.
RegionChoice = str | bool | None

_logger = logging.getLogger("tokenmgr")

_FORCED, _OF_PLATFORM = "MSAL_FORCE_REGION", "REGION_NAME"
#: Where a virtual machine of Azure is told what it is ("Azure Instance Metadata Service").
_METADATA = "http://169.254.169.254/metadata/instance/compute?api-version=2021-02-01"
#: Seconds for which it is waited, from the first byte to the last, and how much of it is read.
_PATIENCE, _MOST_BYTES = 1.0, 1 << 16


def chosen_region(authority: Authority, given: object) -> RegionChoice:
    """Decides where an app's own tokens are asked for, by what the program and its variables say.

    Args:
        authority: Whom the app asks.
        given: What ``azure_region=`` says: a name, True, False, or None for ``MSAL_FORCE_REGION``.

    Raises:
        ConfigurationError: It is no region's name, or the authority has no regions; the message
            names the variable that says so.
    """
    served = authority.kind == "entra" and cloud_of(authority.host) is not None
    if given is None and served:
        forced = os.environ.get(_FORCED, "").strip()
        return checked_region(forced, _FORCED) if forced else None
    if given is None or given is False:
        return None
    if given is not True and not isinstance(given, str):
        raise ConfigurationError(
            "azure_region= is a region's name, such as 'westus3', True to find it out, or False"
        )
    if not served:
        raise ConfigurationError(
            f"azure_region= is for the clouds of Microsoft Entra, and {authority.host} is at none "
            "of their hosts: leave it out"
        )
    if given is not True:
        return checked_region(given, "azure_region=")
    _of_platform(os.environ.get(_OF_PLATFORM, ""))  # what is wrong with it is told at once
    return True


def _of_platform(value: str) -> str | None:
    """Reads ``REGION_NAME``, which App Service writes as people do: ``West US 3``.

    Raises:
        ConfigurationError: It is no region's name.
    """
    name = "".join(value.split()).lower()
    return checked_region(name, _OF_PLATFORM) if name else None


def region_of(choice: RegionChoice) -> str | None:
    """Gives the region of a choice; None for none.

    Raises:
        ConfigurationError: ``REGION_NAME`` has become what is no region's name.
    """
    return _discovery.region() if choice is True else choice or None


def regional_host(authority: Authority, region: str | None) -> str | None:
    """The host of a region, as MSAL has it; None without a region, or where there are none."""
    cloud = cloud_of(authority.host) if authority.kind == "entra" else None
    if region is None or cloud is None:
        return None
    return f"{region}.login.microsoft.com" if cloud is CLOUDS[0] else f"{region}.{cloud.host}"


def regional_url(url: str, host: str | None) -> str:
    """The same endpoint at a region's host; as it is without one."""
    return url if host is None else urlsplit(url)._replace(netloc=host).geturl()


class _Discovery:
    """Where this process runs: found out once, whoever asks first.

    Others do not wait for that, and ask the host of all regions meanwhile, which gives the same
    tokens.
    """

    def __init__(self) -> None:
        self._found: str | None = None
        self._is_done = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Has the child find out by itself, where its parent was about to."""
        #: Held by whoever finds out, and by nobody after that.
        self._turn = threading.Lock()

    def region(self) -> str | None:
        """Gives the region; None where it is not known."""
        if self._is_done or not self._turn.acquire(blocking=False):
            return self._found
        try:
            if not self._is_done:
                self._found = _of_platform(os.environ.get(_OF_PLATFORM, "")) or _of_machine()
                self._is_done = True
        finally:
            self._turn.release()
        return self._found


def _of_machine() -> str | None:
    """Asks the machine's metadata service, which is at the machine itself, and behind no proxy."""
    said = _metadata()
    region = said.get("location") if isinstance(said, dict) else None
    if isinstance(region, str) and is_region(region):
        return region
    _logger.warning(
        "the region is not known: REGION_NAME is not set, and no metadata service of Azure says "
        "it; tokens are asked for at the host of all regions. Set azure_region= to its name, or "
        "leave it out"
    )
    return None


def _metadata() -> object:
    with no_fork():
        from .machine import NoAnswerError, ask_machine
    try:
        return ask_machine(_METADATA, {"Metadata": "true"}, _PATIENCE, _MOST_BYTES)
    except NoAnswerError:
        return None


_discovery = _Discovery()
