"""Users, tenants, scopes, claims, faults and stores at once: to each caller what is theirs."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from emulator_clients import claims_of

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
    """Some workers of an app of many tenants, and many callers, who do what a seed says."""

    def __init__(self, entra: EntraEmulator, url: str | None, seed: int) -> None:
        self.chance = random.Random(seed)
        troubles = (*["fine"] * 9, *TROUBLES)
        self.people = [
            Person(entra, f"user{seed}-{n}@x.com", self.chance.choice(TENANTS), trouble)
            for n, trouble in enumerate(troubles)
        ]
        settings: dict[str, Any] = {
            "client_id": entra.client_id,
            "credential": entra.client_secret,
            "authority": entra.authority("common"),
            "verify": entra.ca_file,
            "policy": RefreshPolicy(backoff_base=0.1),
            "namespace": f"storm-{seed}",
            "store": url,
        }
        bounds = (10_000, 4)
        self.workers = [TokenRegistry(**settings, max_users=most) for most in bounds]
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

    def run(self) -> list[str]:
        def in_loop(seed: int) -> None:
            async def all_() -> None:
                callers = [self.caller(seed + n, loops=True) for n in range(5)]
                await asyncio.gather(*callers)

            asyncio.run(all_())

        def in_thread(seed: int) -> None:
            asyncio.run(self.caller(seed, loops=False))

        works = [in_loop] * 2 + [in_thread] * 6
        threads = [
            threading.Thread(target=work, args=(self.chance.randrange(1 << 30),)) for work in works
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for worker in self.workers:
            worker.close()
        fine = {person.name for person in self.people if not person.allowed}
        if not fine <= self.served | {"nobody"}:
            self.broken.append(f"{fine - self.served} were never served")
        return self.broken


@pytest.mark.filterwarnings("ignore:.*blocks the event loop")  # as callers do, too
@pytest.mark.parametrize("store", ["alone", "shared"])
def test_in_a_storm_each_caller_is_given_their_own(entra: EntraEmulator, tmp_path, store: str):
    entra.token_lifetime = 30  # renewed at a word, and taken from each other's hands
    url = None if store == "alone" else f"sqlite:///{tmp_path}/tokens.db"
    with ExitStack() as stack:
        seed = random.randrange(1 << 30)
        storm = Storm(entra, url, seed)
        for worker in storm.workers:
            stack.callback(worker.close)
        assert storm.run() == [], f"seed {seed}"
