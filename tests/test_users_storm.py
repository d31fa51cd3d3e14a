"""Users, tenants, scopes, claims, faults and stores at once: to each caller what is theirs."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from emulator_clients import claims_of
from fork_marks import needs_fork, unwarned_forks
from forking import Child
from redis_servers import BINARIES, running_server

from tokenmgr import (
    AccessTokenManager,
    ConsentRequiredError,
    InteractionRequiredError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.emulator import EntraEmulator

#: By scope, the audience of its tokens, and what they say that they are for.
SCOPES = {
    "https://graph.microsoft.com/User.Read": ("https://graph.microsoft.com", "User.Read"),
    "api://orders/read": ("api://orders", "read"),
    "api://orders/write": ("api://orders", "write"),
}
CLAIMS = json.dumps({"access_token": {"xms_cc": {"values": ["CP1"]}}})
TENANTS = ("contoso.onmicrosoft.com", "fabrikam.com", "tailwind.com")


class Person:
    """A user, and what may happen to them: what they are to be told is theirs alone."""

    def __init__(self, entra: EntraEmulator, name: str, tenant: str, trouble: str) -> None:
        self.entra, self.name, self.tenant = entra, name, tenant
        #: What their calls may fail with; nothing where none may.
        self.allowed: tuple[type[TokenManagerError], ...] = ()
        self.code = 0
        entra.add_user(name, tenant=tenant)
        self.assertions = [self.sign_in(600), self.sign_in(600)]
        getattr(self, trouble)()

    def sign_in(self, lifetime: float) -> str:
        return self.entra.sign_in(self.name, tenant=self.tenant, lifetime=lifetime)

    def fine(self) -> None:
        """Nothing happens to them."""

    def revoked(self) -> None:
        self.entra.revoke(self.name)
        self.allowed, self.code = (InteractionRequiredError,), 50173

    def asked_for_more(self) -> None:
        self.entra.require_mfa(
            self.name, error=random.choice(["interaction_required", "invalid_grant"])
        )
        self.allowed, self.code = (InteractionRequiredError,), 50076

    def without_consent(self) -> None:
        self.entra.withdraw_consent(self.name)
        self.allowed, self.code = (ConsentRequiredError,), 65001

    def disabled(self) -> None:
        self.entra.disable_user(self.name)
        self.allowed, self.code = (InteractionRequiredError,), 50057

    def throttled(self) -> None:
        self.entra.fail_next(1_000, status=429, retry_after=3600, username=self.name)
        self.allowed = (ThrottledError,)

    def out_of_luck(self) -> None:
        self.entra.fail_next(1_000, status=503, username=self.name)
        self.allowed = (ServiceUnavailableError,)

    def ending(self) -> None:
        """Their assertions end in the middle of it."""
        self.assertions = [self.sign_in(1), self.sign_in(2)]
        self.allowed = (InteractionRequiredError,)

    def forged(self) -> None:
        """Somebody else's signature is under their name."""
        self.assertions = [text[:-8] + "AAAAAAAA" for text in self.assertions]
        self.allowed, self.code = (InteractionRequiredError,), 50013

    def bogus(self) -> None:
        self.assertions = ["opaque", self.assertions[0] + "."]
        self.allowed = (InteractionRequiredError,)


TROUBLES = (
    *("revoked", "asked_for_more", "without_consent", "disabled", "throttled"),
    *("out_of_luck", "ending", "forged", "bogus"),
)


async def taken(manager: AccessTokenManager, claims: str | None, *, loops: bool) -> str:
    """A token, by whichever of a manager's methods."""
    if loops and claims:
        return await manager.arefresh_access_token(claims=claims)
    if loops:
        return await manager.aget_access_token()
    return manager.refresh_access_token(claims=claims) if claims else manager.get_access_token()


class Storm:
    """Some workers of an app of many tenants, and many callers, who do what a seed says.

    Args:
        entra: Where they are.
        url: The store that they share.
        seed: What they do.
        most: For each worker, how many users it keeps.
    """

    def __init__(
        self, entra: EntraEmulator, url: str | None, seed: int, most: tuple[int, ...]
    ) -> None:
        chance = random.Random(seed)
        troubles = (*["fine"] * 9, *TROUBLES)
        self.people = [
            Person(entra, f"user{seed}-{n}@x.com", chance.choice(TENANTS), trouble)
            for n, trouble in enumerate(troubles)
        ]
        self.settings: dict[str, Any] = {
            "client_id": entra.client_id,
            "credential": entra.client_secret,
            "authority": entra.authority("common"),
            "verify": entra.ca_file,
            "policy": RefreshPolicy(backoff_base=0.1),
            "namespace": f"storm-{seed}",
            "timeout": 30.0,  # however slow this machine is
            "store": url,
        }
        self.most = most
        self.workers: list[TokenRegistry] = []
        self.broken: list[str] = []
        self.served: set[str] = set()

    async def caller(self, seed: int, *, loops: bool) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            person, worker = chance.choice(self.people), chance.choice(self.workers)
            scope, assertion = chance.choice([*SCOPES]), chance.choice(person.assertions)
            claims = CLAIMS if chance.random() < 0.1 else None
            try:
                manager = worker.on_behalf_of(assertion, scope)
                if chance.random() < 0.05:
                    with suppress(TokenManagerError):
                        manager.invalidate(manager.get_token())
                token = await taken(manager, claims, loops=loops)
            except TokenManagerError as error:
                self.check_error(person, error)
            except Exception as error:  # noqa: BLE001 - whoever it is that makes no more calls
                self.broken.append(f"{person.name} was told {error!r}")
            else:
                self.check_token(person, assertion, scope, claims, token)

    def check_token(
        self, person: Person, assertion: str, scope: str, claims: str | None, token: str
    ) -> None:
        self.served.add(person.name)
        now, said, of = time.time(), claims_of(token), claims_of(assertion)
        audience, permission = SCOPES[scope]
        mine = (said["oid"], said["tid"], said["aud"]) == (of["oid"], of["tid"], audience)
        if not mine or permission not in said["scp"].split():
            self.broken.append(f"{person.name} was given another's token")
        if now >= min(said["exp"], of["exp"]):
            self.broken.append(f"{person.name} was given one that has ended")
        if claims and said.get("xms_cc") != ["CP1"]:
            self.broken.append(f"{person.name} was given one of other claims")

    def check_error(self, person: Person, error: TokenManagerError) -> None:
        own = person.code in (0, *error.error_codes)
        if type(error) not in person.allowed or not own:
            self.broken.append(f"{person.name} was told {type(error).__name__}: {error}")
        if person.name in str(error):
            self.broken.append("an error names a user")

    def run(self, seed: int) -> list[list[str]]:
        """What was broken in this process, and who was served."""
        chance = random.Random(seed)

        def in_loop(seed: int) -> None:
            async def all_() -> None:
                callers = [self.caller(seed + n, loops=True) for n in range(5)]
                await asyncio.gather(*callers)

            asyncio.run(all_())

        def in_thread(seed: int) -> None:
            asyncio.run(self.caller(seed, loops=False))

        with ExitStack() as stack:
            self.workers = [
                stack.enter_context(TokenRegistry(**self.settings, max_users=most))
                for most in self.most
            ]
            works = [in_loop] * 2 + [in_thread] * 6
            threads = [
                threading.Thread(target=work, args=(chance.randrange(1 << 30),)) for work in works
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return [self.broken, sorted(self.served)]

    def check(self, *told: list[list[str]]) -> None:
        """Fails the test where anything was broken, or somebody was served in no process."""
        broken = [each for breakings, _ in told for each in breakings]
        served = {name for _, names in told for name in names}
        fine = {person.name for person in self.people if not person.allowed}
        assert (broken, fine - served) == ([], set())


@pytest.fixture
def seed() -> int:
    """What a failure shows, to be done again."""
    return random.randrange(1 << 30)


@pytest.mark.filterwarnings("ignore:.*blocks the event loop")  # as callers do, too
@pytest.mark.parametrize("store", ["alone", "shared"])
def test_in_a_storm_each_caller_is_given_their_own(
    entra: EntraEmulator, tmp_path: Path, store: str, seed: int
) -> None:
    entra.token_lifetime = 30  # renewed at a word, and taken from each other's hands
    url = None if store == "alone" else f"sqlite:///{tmp_path}/tokens.db"
    storm = Storm(entra, url, seed, most=(10_000, 4))
    storm.check(storm.run(seed))


@needs_fork
@unwarned_forks
@pytest.mark.filterwarnings("ignore:.*blocks the event loop")
@pytest.mark.parametrize("shared", ["sqlite", "redis"])
def test_in_a_storm_of_processes_each_caller_is_given_their_own(
    entra: EntraEmulator, tmp_path: Path, shared: str, seed: int
) -> None:
    entra.token_lifetime = 30
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/tokens.db"
        if shared == "redis":
            url = stack.enter_context(running_server(next(iter(BINARIES.values())))).url
        storm = Storm(entra, url, seed, most=(12,))
        processes = [Child(partial(storm.run, seed + number), within=60) for number in range(3)]
        storm.check(*[process.outcome() for process in processes])
