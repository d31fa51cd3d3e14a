"""What the module of every web framework does: one suite, inherited for each of them.

A framework has an application with the routes below, and classes that inherit the suite with a
fixture ``ask``, which sends requests to it: :class:`WebCompliance` by the framework's test client,
and :class:`ServedCompliance`, the part of it that servers could spoil, by HTTP. Each route is there
as a sync view and, below ``/async``, as an async one.

======================  ==========================================================================
``GET /me``             says who calls: ``subject``, ``object_id`` and ``is_app``
``GET|POST /orders``    the same, for the scope ``Orders.Read`` and the role ``Orders.Read.All``
``GET /graph``          ``token``, for Graph on behalf of the caller, got deep inside
``GET /open``           the same as ``/me`` for anybody; ``subject`` is null for nobody
``GET /broken``         raises an error that is the program's own
``GET /ready``          for probes
======================  ==========================================================================
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

import pytest
from forgeries import FORGERIES, Forger

from tokenmgr import BearerRefusedError, ConfigurationError
from tokenmgr.emulator import EntraEmulator
from tokenmgr.web.caller import Caller

GRAPH = "https://graph.microsoft.com/User.Read"
READ, READ_ALL = "Orders.Read", "Orders.Read.All"
#: What is in no answer.
INTERNAL = "the registry of orders is at 10.0.0.7"


class Answer(NamedTuple):
    """What came back."""

    status: int
    #: By their names in lower case.
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def challenge(self) -> str:
        return self.headers.get("www-authenticate", "")


#: ``ask(path, *authorizations, method="GET")``
Ask = Callable[..., Answer]


def told_of(caller: Caller) -> dict[str, Any]:
    """What an application says of whoever calls."""
    return {
        "subject": caller.subject,
        "object_id": caller.object_id,
        "is_app": caller.is_app,
    }


def told_of_anybody(caller: Callable[[], Caller]) -> dict[str, Any]:
    """What it says where it may be nobody."""
    try:
        return told_of(caller())
    except BearerRefusedError:
        return {"subject": None}


def break_down() -> None:
    """What goes wrong in the program itself."""
    raise ConfigurationError(INTERNAL)


def by_http(url: str) -> Ask:
    """Asks a server, and sends each header as it is."""
    place = urlsplit(url)

    def ask(path: str, *authorizations: str, method: str = "GET") -> Answer:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        try:
            connection.putrequest(method, path)
            for each in authorizations:
                connection.putheader("Authorization", each.encode("latin-1"))
            connection.putheader("Content-Length", "0")
            connection.endheaders()
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read().decode())
        finally:
            connection.close()

    return ask


#: What servers refuse by themselves.
BY_SERVERS = ("a control character",)


class Failure(NamedTuple):
    """How it fails to get a token on behalf of a user, and what the caller is told."""

    arrange: Callable[[EntraEmulator, str], None]
    status: int
    #: What the challenge begins with, if there is one.
    challenge: str | None
    error: str
    waits: bool = False


#: What on-behalf-of may come to, by its name.
FAILURES: dict[str, Failure] = {
    "more proof is wanted": Failure(
        lambda entra, who: entra.require_mfa(who),
        401,
        'Bearer error="insufficient_claims", claims="',
        "insufficient_claims",
    ),
    "the session was ended": Failure(
        lambda entra, who: entra.revoke(who), 401, 'Bearer error="invalid_token"', "invalid_token"
    ),
    "nobody has consented": Failure(
        lambda entra, who: entra.withdraw_consent(who), 403, None, "consent_required"
    ),
    "throttled": Failure(
        lambda entra, who: entra.fail_next(9, status=429, retry_after=30, username=who),
        *(503, None, "temporarily_unavailable", True),
    ),
    "an outage": Failure(
        lambda entra, who: entra.fail_next(9, status=503, username=who),
        *(503, None, "temporarily_unavailable"),
    ),
    "nobody answers": Failure(
        lambda entra, who: entra.fail_next(9, disconnect=True, username=who),
        *(503, None, "temporarily_unavailable"),
    ),
}


def _is_told(answer: Answer, error: str | None) -> bool:
    """Whether an answer tells why a bearer is refused, as RFC 6750 has it."""
    if error is None:
        return answer.challenge == 'Bearer realm=""'
    return answer.challenge.startswith(f'Bearer error="{error}", error_description="')


def bearer(token: str) -> str:
    return f"Bearer {token}"


class ServedCompliance:
    """What a server could spoil. ``entra`` serves a class's tests, each of which has its users."""

    #: Before each path: of sync views, and of async ones.
    kinds: ClassVar[tuple[str, ...]] = ("", "/async")
    #: The forgeries that no application sees, as its server answers them with 400.
    refused_by_server: ClassVar[tuple[str, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "kind" in metafunc.fixturenames:
            names = [kind.strip("/") or "sync" for kind in self.kinds]
            metafunc.parametrize("kind", self.kinds, ids=names)

    @pytest.fixture(scope="class")
    @classmethod
    def entra(cls) -> Iterator[EntraEmulator]:
        with EntraEmulator() as emulator:
            yield emulator

    @pytest.fixture
    def who(self, request: pytest.FixtureRequest) -> str:
        """A user of the test's own."""
        name = "".join(each if each.isalnum() else "-" for each in request.node.name)
        return f"{name}@contoso.com"

    # Who is let in

    def test_who_sends_no_bearer_is_told_that_one_is_needed(self, ask: Ask, kind: str) -> None:
        answer = ask(f"{kind}/me")
        assert (answer.status, answer.challenge) == (401, 'Bearer realm=""')
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.body["error_description"]

    def test_who_sends_one_is_known(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str
    ) -> None:
        object_id = entra.add_user(who)
        answer = ask(f"{kind}/me", bearer(entra.sign_in(who)))
        assert answer.status == 200, answer.text
        assert (answer.body["object_id"], answer.body["is_app"]) == (object_id, False)

    def test_no_caller_is_left_for_the_next(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str
    ) -> None:
        for _ in range(3):
            assert ask(f"{kind}/open", bearer(entra.sign_in(who))).body["subject"] is not None
            assert ask(f"{kind}/open").body == {"subject": None}

    def test_whoever_sends_a_bad_one_is_nobody_where_anybody_may_call(
        self, ask: Ask, kind: str
    ) -> None:
        answer = ask(f"{kind}/open", bearer("opaque"))
        assert (answer.status, answer.body) == (200, {"subject": None})

    def test_no_forgery_passes_and_none_asks_the_authority(
        self, ask: Ask, kind: str, entra: EntraEmulator
    ) -> None:
        forger, let_in = Forger(entra), {}
        assert ask(f"{kind}/me", bearer(forger.token())).status == 200
        asked = len(entra.requests)
        for name in FORGERIES:
            forged = forger.forge(name)
            # What a server makes of the bytes that were sent (PEP 3333).
            sent = [each.encode().decode("latin-1") for each in forged.authorization]
            answer = ask(f"{kind}/me", *sent)
            wanted = 400 if name in self.refused_by_server else forged.status
            if answer.status != wanted or (wanted != 400 and not _is_told(answer, forged.error)):
                let_in[name] = (answer.status, answer.challenge)
        assert not let_in, let_in
        # Once in a minute, for a key that it does not have, is all.
        assert len(entra.requests) - asked <= 1

    # On behalf of the caller

    def test_another_api_is_called_for_the_caller_with_one_request(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str
    ) -> None:
        assertion = entra.sign_in(who)
        answers = [ask(f"{kind}/graph", bearer(assertion)) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3, answers[0].text
        assert len({answer.body["token"] for answer in answers}) == 1
        assert entra.count(username=who) == 1

    def test_a_sign_in_with_the_claims_that_were_told_is_enough(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str
    ) -> None:
        entra.add_user(who)
        entra.require_mfa(who)
        challenge = ask(f"{kind}/graph", bearer(entra.sign_in(who))).challenge
        encoded = challenge.partition('claims="')[2].rstrip('"')
        claims = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        stronger = entra.sign_in(who, claims=claims)
        assert ask(f"{kind}/graph", bearer(stronger)).status == 200

    # What else is answered

    def test_an_error_of_the_program_stays_inside(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str
    ) -> None:
        answer = ask(f"{kind}/broken", bearer(entra.sign_in(who)))
        assert answer.status == 500
        self.tells_nothing(answer, entra, who)

    def test_a_probe_needs_no_bearer(self, ask: Ask) -> None:
        answer = ask("/ready")
        assert (answer.status, answer.body) == (200, {"status": "ready"})

    def test_an_address_that_is_none_is_answered(
        self, ask: Ask, entra: EntraEmulator, who: str
    ) -> None:
        assert ask("/nowhere").status in (401, 404)
        assert ask("/nowhere", bearer(entra.sign_in(who))).status == 404

    @staticmethod
    def tells_nothing(answer: Answer, entra: EntraEmulator, who: str) -> None:
        """Nothing internal is in an answer."""
        shown = answer.text + repr(answer.headers)
        for internal in ("AADSTS", INTERNAL, "Traceback", who, entra.client_id, entra.url):
            assert internal not in shown, internal


class WebCompliance(ServedCompliance):
    """All of the suite, for what asks an application by itself."""

    @pytest.fixture
    def app_token(self, entra: EntraEmulator) -> Callable[..., str]:
        """Gives an app's own token for the API, with these roles."""

        def make(*roles: str) -> str:
            client = entra.add_client(secret="an app's own secret", roles=roles)
            with entra.registry(client_id=client, credential="an app's own secret") as tokens:
                return tokens.get_access_token(f"api://{entra.client_id}/.default")

        return make

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_user_needs_one_of_the_scopes(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str, method: str
    ) -> None:
        with_it = entra.sign_in(who, scopes=["Orders.Write", READ])
        assert ask(f"{kind}/orders", bearer(with_it), method=method).status == 200
        answer = ask(f"{kind}/orders", bearer(entra.sign_in(who)), method=method)
        assert answer.status == 403
        assert answer.challenge.startswith('Bearer error="insufficient_scope", ')
        assert f'scope="{READ}"' in answer.challenge
        assert ask(f"{kind}/orders", method=method).status == 401

    def test_an_app_needs_one_of_the_roles(
        self, ask: Ask, kind: str, app_token: Callable[..., str]
    ) -> None:
        answer = ask(f"{kind}/orders", bearer(app_token(READ_ALL)))
        assert (answer.status, answer.body["is_app"]) == (200, True)
        answer = ask(f"{kind}/orders", bearer(app_token("Orders.Write.All")))
        assert answer.status == 403
        assert 'error="insufficient_scope"' in answer.challenge

    @pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
    def test_a_caller_is_told_what_to_do_where_that_fails(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str, failure: Failure
    ) -> None:
        assertion = entra.sign_in(who)
        failure.arrange(entra, who)
        answer = ask(f"{kind}/graph", bearer(assertion))
        entra.recover()
        assert (answer.status, answer.body["error"]) == (failure.status, failure.error)
        assert answer.challenge.startswith(failure.challenge or "")
        assert bool(answer.challenge) == bool(failure.challenge)
        if failure.waits:
            assert 25 <= int(answer.headers["retry-after"]) <= 35
        self.tells_nothing(answer, entra, who)

    def test_there_is_nobody_on_whose_behalf_an_app_could_be_served(
        self, ask: Ask, kind: str, entra: EntraEmulator, app_token: Callable[..., str]
    ) -> None:
        answer = ask(f"{kind}/graph", bearer(app_token()))
        assert (answer.status, answer.body["error"]) == (403, "insufficient_scope")


__all__ = [
    "BY_SERVERS",
    "FAILURES",
    "GRAPH",
    "READ",
    "READ_ALL",
    "Answer",
    "Ask",
    "Failure",
    "ServedCompliance",
    "WebCompliance",
    "bearer",
    "break_down",
    "by_http",
    "told_of",
    "told_of_anybody",
]
