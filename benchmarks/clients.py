"""What the auth objects of HTTP clients cost, how a slow request holds up others, cold callers."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from operator import methodcaller
from statistics import median
from threading import Thread
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from tokenmgr import AccessTokenManager
from tokenmgr.http import aiohttp as our_aiohttp
from tokenmgr.http import httpx as our_httpx
from tokenmgr.http import httpx2 as our_httpx2
from tokenmgr.http import requests as our_requests
from tokenmgr.http import urllib3 as our_urllib3

from .crowd import together
from .figure import Figure, Section
from .service import SCOPE, Service
from .turns import Contestant, awaited, called, in_turns

__all__ = [
    "URL",
    "cold_section",
    "costs",
    "of_httpx",
    "of_requests",
    "ours",
    "slow_section",
    "warm_section",
]

URL = "https://graph.microsoft.com/v1.0/me"
#: The local Entra's own API.
_API = "/graph/v1.0/me"
#: Seconds: what an auth object may add, and what a request may take beside a slow one.
_MOST_ADDED, _MOST_HELD_UP = 5e-6, 0.05
#: Seconds that the service takes, as for the cold callers of a token.
_LATENCY = 0.2

_WARM = (
    "What is done to a request that finds a valid token, less what the same request costs without "
    "an auth object. Median of {rounds} rounds, in each of which every contestant has its turn. "
    "Nothing is sent. tokenmgr also checks where each request goes, and prepares for a refusal."
)
_SLOW_METHOD = (
    "Through one auth object a request is under way that the server answers after {seconds:.0f} s; "
    "the longest of {count} others, sent one after another meanwhile, each over a connection that "
    "is open."
)
_COLD = (
    "50 callers start at the same moment, through one auth object and 50 connections of one client "
    "that has no token yet; the service takes {latency} s to answer and counts its token requests."
)


# Warm


@contextmanager
def ours(
    manager: AccessTokenManager, loop: asyncio.AbstractEventLoop
) -> Iterator[dict[str, Contestant]]:
    """Requests of each client with our auth object and without one (``bare``), by name."""
    prepared = requests.Request("GET", URL).prepare()
    found = {
        "requests": of_requests(prepared, our_requests.BearerAuth(manager)),
        "bare requests": of_requests(prepared, lambda request: request),
        "httpx": of_httpx(httpx, our_httpx.BearerAuth(manager)),
        "bare httpx": of_httpx(httpx, httpx.Auth()),
        "httpx2": of_httpx(httpx2, our_httpx2.BearerAuth(manager)),
        "bare httpx2": of_httpx(httpx2, httpx2.Auth()),
    }
    answer = urllib3.HTTPResponse(b"x")
    auth = our_urllib3.BearerAuth(manager)
    for name, pool in (("urllib3", auth.pool()), ("bare urllib3", urllib3.PoolManager())):
        connections = pool.connection_from_url(URL)
        connections.urlopen = lambda *_, **__: answer  # type: ignore[method-assign]
        found[name] = called("pool.urlopen('GET', url)", pool=pool, url=URL)
    session = loop.run_until_complete(_new_session())
    yield found | _of_aiohttp(session, our_aiohttp.BearerAuth(manager), loop)
    loop.run_until_complete(session.close())


def of_requests(prepared: requests.PreparedRequest, auth: Callable[..., Any]) -> Contestant:
    """A request of requests that passes an auth object."""
    # New headers for each: to take one out again costs more where there is one.
    statement = "prepared.headers = copy(headers); prepared.hooks = hooks; auth(prepared)"
    names = {"headers": prepared.headers, "hooks": {"response": []}}
    return called(statement, auth=auth, prepared=prepared, copy=CaseInsensitiveDict, **names)


def of_httpx(library: Any, auth: Any) -> Contestant:
    """A request of httpx or httpx2 that passes an auth object."""
    request = library.Request("GET", URL)
    headers, copy = request.headers, library.Headers
    answer = library.Response(200, request=request)

    def run() -> None:
        request.headers = copy(headers)
        flow = auth.sync_auth_flow(request)
        next(flow)
        with suppress(StopIteration):
            flow.send(answer)

    return called("run()", run=run)


async def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


def _of_aiohttp(
    session: aiohttp.ClientSession, auth: Any, loop: asyncio.AbstractEventLoop
) -> dict[str, Contestant]:
    # All that a session asks of an answer.
    answered: Any = SimpleNamespace(status=200, connection=None, _raw_cookie_headers=None)

    async def answer(*_: object) -> Any:
        return answered

    def of(*middlewares: Any) -> Contestant:
        return awaited(loop, lambda: session._request("GET", URL, middlewares=middlewares))  # noqa: SLF001 - it is timed without what wraps it

    return {"aiohttp": of(auth, answer), "bare aiohttp": of(answer)}


def costs(contestants: dict[str, Contestant], *, rounds: int) -> dict[str, list[float]]:
    """Seconds per request of every round, for each contestant."""
    return in_turns(contestants, rounds=rounds)


def added(found: dict[str, list[float]], name: str, bare: str) -> float:
    """Seconds that an auth object adds to what its client does without."""
    return median(one - other for one, other in zip(found[name], found[bare], strict=True))


def warm_section(found: dict[str, list[float]], peers: dict[str, tuple[str, str]]) -> Section:
    """The figures in what :func:`costs` gave.

    Args:
        found: Seconds for each contestant.
        peers: For each peer our client that it stands beside, or none, and what it is counted from.
    """
    rounds = len(next(iter(found.values())))
    section = Section("A warm request", _WARM.format(rounds=rounds))
    for name in ("requests", "httpx", "httpx2", "urllib3", "aiohttp"):
        cost = added(found, name, f"bare {name}")
        theirs = {p: added(found, p, bare) for p, (beside, bare) in peers.items() if beside == name}
        told = "".join(f", {peer} {_time(seconds)}" for peer, seconds in theirs.items())
        section.figures.append(
            Figure(
                f"`tokenmgr.http.{name}.BearerAuth`",
                f"{_time(cost)}{told}",
                f"at most 5 µs{', and less than the peers' if theirs else ''}",
                cost <= min((_MOST_ADDED, *theirs.values())),
            )
        )
    others = {p: added(found, p, bare) for p, (beside, bare) in peers.items() if not beside}
    section.figures.extend(Figure(peer, _time(seconds)) for peer, seconds in others.items())
    return section


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} µs"


# Clients that send


@contextmanager
def sync_clients(
    manager: AccessTokenManager, ca_file: str, hosts: str
) -> Iterator[dict[str, Callable[[str], int]]]:
    """Calls by the sync clients, by name: each gives the status of its answer."""
    context = ssl.create_default_context(cafile=ca_file)
    session = requests.Session()
    session.verify, session.auth = ca_file, our_requests.BearerAuth(manager, hosts=hosts)
    session.mount("https://", HTTPAdapter(pool_maxsize=50))
    pool = our_urllib3.BearerAuth(manager, hosts=hosts).pool(ca_certs=ca_file, maxsize=50)
    one = httpx.Client(verify=context, auth=our_httpx.BearerAuth(manager, hosts=hosts))
    two = httpx2.Client(verify=context, auth=our_httpx2.BearerAuth(manager, hosts=hosts))
    with session, pool, one, two:
        yield {
            "requests": lambda url: session.get(url, timeout=60).status_code,
            "urllib3": lambda url: pool.request("GET", url, timeout=60).status,
            "httpx": lambda url: one.get(url, timeout=60).status_code,
            "httpx2": lambda url: two.get(url, timeout=60).status_code,
        }


@asynccontextmanager
async def async_clients(
    manager: AccessTokenManager, ca_file: str, hosts: str
) -> AsyncIterator[dict[str, Callable[[str], Awaitable[int]]]]:
    """Does as :func:`sync_clients`, for the async ones."""
    context = ssl.create_default_context(cafile=ca_file)
    one = httpx.AsyncClient(verify=context, auth=our_httpx.BearerAuth(manager, hosts=hosts))
    two = httpx2.AsyncClient(verify=context, auth=our_httpx2.BearerAuth(manager, hosts=hosts))
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        middlewares=(our_aiohttp.BearerAuth(manager, hosts=hosts),),
    )

    async def by_aiohttp(url: str) -> int:
        async with session.get(url) as answer:
            await answer.read()
            return answer.status

    async def by_httpx(client: Any, url: str) -> int:
        return int((await client.get(url, timeout=60)).status_code)

    async with session, one, two:
        yield {
            "aiohttp": by_aiohttp,
            "httpx, async": partial(by_httpx, one),
            "httpx2, async": partial(by_httpx, two),
        }


# One slow request


def slow_section(
    manager: AccessTokenManager, ca_file: str, *, seconds: float = 3.0, count: int = 20
) -> Section:
    """How long others take while a slow request is under way."""
    found: dict[str, float] = {}
    with _server(seconds) as url:
        hosts = url.removeprefix("http://")
        with sync_clients(manager, ca_file, hosts) as calls:
            slow = [Thread(target=call, args=(f"{url}/slow",)) for call in calls.values()]
            for call in calls.values():
                call(url)
            for thread in slow:
                thread.start()
            for name, call in calls.items():
                found[name] = _longest(call, url, count)
            assert all(thread.is_alive() for thread in slow), "the slow ones were over"  # noqa: S101
            for thread in slow:
                thread.join()
        found |= asyncio.run(_slow_async(manager, ca_file, url, count))
    figures = [
        Figure(name, f"{seconds * 1e3:.1f} ms", "less than 50 ms", seconds < _MOST_HELD_UP)
        for name, seconds in found.items()
    ]
    return Section("One slow request", _SLOW_METHOD.format(seconds=seconds, count=count), figures)


def _longest(call: Callable[[str], int], url: str, count: int) -> float:
    longest = 0.0
    for _ in range(count):
        began = time.perf_counter()
        call(url)
        longest = max(longest, time.perf_counter() - began)
    return longest


async def _slow_async(
    manager: AccessTokenManager, ca_file: str, url: str, count: int
) -> dict[str, float]:
    found = {}
    async with async_clients(manager, ca_file, url.removeprefix("http://")) as calls:
        for call in calls.values():
            await call(url)
        slow = [asyncio.ensure_future(call(f"{url}/slow")) for call in calls.values()]
        await asyncio.sleep(0.1)
        for name, call in calls.items():
            times = []
            for _ in range(count):
                began = time.perf_counter()
                await call(url)
                times.append(time.perf_counter() - began)
            found[name] = max(times)
        assert not any(task.done() for task in slow), "the slow ones were over"  # noqa: S101
        await asyncio.gather(*slow)
    return found


class _Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: What a slow answer takes.
    seconds: float

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(self.seconds)
        self.send_response(200 if "Authorization" in self.headers else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def _server(seconds: float) -> Iterator[str]:
    answering = type("Answering", (_Answering,), {"seconds": seconds})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answering)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


# Cold callers


def cold_section(*, callers: int = 50) -> Section:
    """How many token requests so many callers make through each client."""
    section = Section("Cold callers of an API", _COLD.format(latency=_LATENCY))
    with Service(latency=_LATENCY) as service:
        for name in ("requests", "urllib3", "httpx", "httpx2"):
            section.figures.append(_cold(service, name, partial(_threads, name, callers)))
        for name in ("aiohttp", "httpx, async", "httpx2, async"):
            section.figures.append(_cold(service, name, partial(_tasks, name, callers)))
    return section


def _cold(service: Service, name: str, call: Callable[..., list[Any]]) -> Figure:
    service.ask(methodcaller("clear"))
    settings = service.settings
    with service.registry() as tokens:
        hosts = settings.url.removeprefix("https://")
        statuses = call(tokens.manager(SCOPE), settings.ca_file, hosts, f"{settings.url}{_API}")
    made, failed = service.ask(methodcaller("count")), sum(each != 200 for each in statuses)
    told = f"{made} token request{'' if made == 1 else 's'}, {failed} failed"
    return Figure(name, told, "1 token request", made == 1 and not failed)


def _threads(
    name: str, count: int, manager: AccessTokenManager, ca_file: str, hosts: str, url: str
) -> list[Any]:
    with sync_clients(manager, ca_file, hosts) as calls:
        return together([partial(calls[name], url)] * count)


def _tasks(
    name: str, count: int, manager: AccessTokenManager, ca_file: str, hosts: str, url: str
) -> list[Any]:
    async def run() -> list[Any]:
        async with async_clients(manager, ca_file, hosts) as calls:
            return await asyncio.gather(*[calls[name](url) for _ in range(count)])

    return asyncio.run(run())
