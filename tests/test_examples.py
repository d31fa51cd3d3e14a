from __future__ import annotations

import base64
import contextlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celery
import pytest
import redis_servers
import requests
from agent_legs import legs
from azure_cli import AzureCli
from fork_marks import needs_fork
from programs import read_until, run, running, serving
from waiting import until

from tokenmgr.emulator import EmulatedSidecar, EntraEmulator
from tokenmgr.http.challenges import read

API = "/graph/v1.0/organization"


@contextmanager
def daemon(
    entra: EntraEmulator, *arguments: str, url: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The daemon with the emulator's variables alone, what it logs as its output."""
    with running(
        "examples/daemon_requests.py",
        *("--url", url or f"{entra.url}{API}", "--interval", "0.01", *arguments),
        stderr=subprocess.STDOUT,
        **entra.environment(),
    ) as process:
        yield process


def test_the_daemon_makes_all_its_calls_with_one_token(entra):
    with daemon(entra, "--count", "3") as process:
        log, _ = process.communicate()

    assert process.returncode == 0
    assert log.count(f"INFO {entra.url}{API} answered with 200") == 3
    assert log.endswith("the daemon ends\n")
    assert (entra.api_calls, entra.count()) == (3, 1)


def test_the_daemon_asks_for_the_scope_it_is_given(entra):
    with daemon(entra, "--count", "1", "--scope", "api://orders/.default") as process:
        process.communicate()

    assert process.returncode == 0
    assert entra.count(scope="api://orders/.default") == 1


@pytest.mark.parametrize("host", ["app_service", "vm"])
def test_the_secretless_daemon_calls_as_the_machine_or_as_an_app_that_trusts_it(entra, host):
    entra.trust_identity(entra.system_identity)
    variables = entra.identity_environment(host) | {
        name: entra.environment()[name] for name in ("REQUESTS_CA_BUNDLE", "NO_PROXY")
    }
    common = ("--url", f"{entra.url}{API}", "--interval", "0.01", "--count", "3")
    program = "examples/secretless_daemon.py"

    machine = run(program, *common, **variables)
    app = run(
        program, *common, "--app", entra.client_id, "--tenant", entra.authority(), **variables
    )

    assert (machine.returncode, app.returncode) == (0, 0), machine.stderr + app.stderr
    assert "tokens come from <TokenRegistry of ManagedIdentity()>" in machine.stderr
    assert (entra.api_calls, len(entra.identity_requests), entra.count()) == (6, 2, 1)


def test_the_secretless_daemon_calls_as_who_has_signed_in(entra, tmp_path):
    with entra.registry() as tokens:  # what az would have got
        token = tokens.get_access_token("https://graph.microsoft.com/.default")
    cli = AzureCli(tmp_path, answer={"accessToken": token})
    settings = {"AZURE_TOKEN_CREDENTIALS": "AzureCliCredential", "PATH": cli.path}

    done = run(
        *("examples/secretless_daemon.py", "--signed-in", "--count", "2", "--interval", "0"),
        *("--url", f"{entra.url}{API}"),
        **settings,
        REQUESTS_CA_BUNDLE=entra.ca_file,
    )

    assert done.returncode == 0, done.stderr
    assert (entra.api_calls, len(cli.calls)) == (2, 1)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_ends_cleanly_when_it_is_told_to(entra, ending):
    with daemon(entra) as process:
        read_until(process, "answered with 200")
        process.send_signal(ending)
        log, _ = process.communicate()

    assert process.returncode == 0
    assert log.endswith("the daemon ends\n")
    assert "Traceback" not in log


def test_the_daemon_logs_what_goes_wrong_by_its_class_and_goes_on(entra):
    entra.fail_next(status=400, error="invalid_scope", error_codes=[70011])
    entra.fail_next(path="graph", status=403)

    with daemon(entra) as process:
        log = read_until(process, "answered with 200")

    assert "ERROR InvalidScopeError: " in log
    assert "ERROR HTTPError: 403" in log
    assert entra.client_secret not in log
    assert "Traceback" not in log


def test_the_daemon_says_when_nobody_answers_at_the_api(entra):
    with daemon(entra, "--count", "1", url="https://127.0.0.1:1/orders") as process:
        log, _ = process.communicate()

    assert process.returncode == 0
    assert "ERROR ConnectionError: the API cannot be reached" in log


def test_the_workers_share_one_token(entra, tmp_path):
    done = run(
        "examples/shared_workers.py",
        *("--workers", "3", "--store", f"sqlite:///{tmp_path}/tokens.db"),
        **entra.environment(),
    )
    assert done.returncode == 0
    assert done.stderr.count("fetched a token in") == 1
    assert done.stderr.count("found the token of another worker") == 2
    assert entra.count() == 1


def test_an_agent_calls_as_itself_and_as_its_user(entra):
    agent, name = entra.add_agent(), "agent@contoso.onmicrosoft.com"
    entra.add_agent_user(name, agent)
    entra.fail_next(path="graph", status=503)
    given = ("--url", f"{entra.url}{API}", "--me", f"{entra.url}/graph/v1.0/me", "--user", name)
    rounds = ("--count", "3", "--interval", "0")
    done = run("examples/agent.py", agent, *given, *rounds, **entra.environment())
    assert done.returncode == 0, done.stderr
    assert [line.rpartition(" ")[2] for line in done.stdout.splitlines()] == ["200"] * 5
    assert done.stderr.count("503") == 1
    assert legs(entra) == ["T1", "agent", "T2", "user"]


def test_an_agent_says_what_is_missing_and_goes_on(entra):
    name = "agent@contoso.onmicrosoft.com"
    agent, _ = entra.add_agent(), entra.add_agent_user(name, entra.add_agent())
    given = ("--url", f"{entra.url}{API}", "--me", f"{entra.url}/graph/v1.0/me", "--user", name)
    done = run("examples/agent.py", agent, *given, "--count", "1", **entra.environment())
    assert "consent is missing" in done.stderr
    assert f"{entra.url}{API}: 200" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_job_goes_through_its_tenants_with_one_request_for_each(entra, tmp_path):
    pytest.importorskip("resource")
    names = [f"customer-{number}.onmicrosoft.com" for number in range(200)]
    (tmp_path / "names").write_text("\n".join(names), "utf-8")
    tenants = ("--tenants", str(tmp_path / "names"))
    done = run("examples/many_tenants.py", *tenants, **entra.environment())
    rounds = re.findall(r"round \d: 200 tenants, 0 failed, .* s; (\d+) threads", done.stderr)
    assert len(rounds) == 3, done.stderr
    # The one that renews is left when all has been fetched, besides the program's own.
    assert int(rounds[-1]) < 50, "no thread is any tenant's own"
    assert entra.count() == 200


def test_a_job_tells_of_a_tenant_that_refuses_it_and_goes_on(entra, tmp_path):
    pytest.importorskip("resource")
    (tmp_path / "names").write_text("one.com nonexistent.com another.com", "utf-8")
    tenants = ("--tenants", str(tmp_path / "names"), "--rounds", "1")
    done = run("examples/many_tenants.py", *tenants, **entra.environment())
    assert "round 1: 3 tenants, 1 failed" in done.stderr
    assert "nonexistent.com>: ConfigurationError: " in done.stderr
    assert "Traceback" not in done.stderr


ANN = "ann@contoso.com"


@contextmanager
def web_api(entra: EntraEmulator) -> Iterator[str]:
    """The web API at its address, in front of the emulator's Graph, which takes users alone."""
    entra.protect_api(audience="https://graph.microsoft.com", scopes=["User.Read"])
    with serving(
        *("uvicorn", "--app-dir", "examples", "web_api:app"),
        GRAPH_URL=f"{entra.url}/graph/v1.0",
        **entra.environment(),
    ) as api:
        yield api.url


def call(url: str, assertion: str) -> requests.Response:
    return requests.get(f"{url}/me", headers={"Authorization": f"Bearer {assertion}"}, timeout=30)


def test_the_web_api_calls_graph_for_each_of_its_users(entra):
    bob = "bob@contoso.com"
    with web_api(entra) as url:
        for assertion in (entra.sign_in(ANN), entra.sign_in(bob)):
            for _ in range(4):
                assert call(url, assertion).status_code == 200
    assert (entra.count(username=ANN), entra.count(username=bob), entra.count()) == (1, 1, 2)
    assert entra.api_calls == 8


def test_the_web_api_tells_its_callers_what_to_do(entra):
    ann = entra.sign_in(ANN)
    with web_api(entra) as url:
        for useless in ("", "opaque", entra.sign_in(ANN, lifetime=-1), f"{ann}x"):
            answer = call(url, useless)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        entra.require_mfa(ANN)
        challenge = call(url, ann).headers["WWW-Authenticate"]
        claims = base64.b64decode(challenge.partition('claims="')[2].rstrip('"')).decode()
        assert challenge.startswith('Bearer error="insufficient_claims"')
        stronger = entra.sign_in(ANN, claims=claims)
        assert call(url, stronger).status_code == 200
        entra.withdraw_consent(ANN)
        assert call(url, entra.sign_in(ANN, claims=claims)).status_code == 403
        entra.fail_next(9, status=429, retry_after=30, username="bob@contoso.com")
        answer = call(url, entra.sign_in("bob@contoso.com"))
        assert answer.status_code == 503
        assert 25 <= int(answer.headers["Retry-After"]) <= 35
        assert ANN not in answer.text


@contextmanager
def mail_api(entra: EntraEmulator) -> Iterator[Callable[..., requests.Response]]:
    """The API of three routes, in front of the emulator's Graph, which takes users alone."""
    entra.protect_api(
        audience="https://graph.microsoft.com", scopes=["User.Read", "Mail.Read", "Mail.Send"]
    )
    with serving(
        *("uvicorn", "--app-dir", "examples", "on_behalf_of_fastapi:app"),
        GRAPH_URL=f"{entra.url}/graph/v1.0",
        **entra.environment(),
    ) as served:
        url = served.url

        def call(path: str, assertion: str, **message: str) -> requests.Response:
            headers = {"Authorization": f"Bearer {assertion}"} if assertion else {}
            method = "POST" if message else "GET"
            return requests.request(
                method, url + path, headers=headers, json=message or None, timeout=30
            )

        yield call


def test_the_api_of_three_routes_does_them_for_each_of_its_users(entra):
    message = {"to": "bob@contoso.com", "subject": "Lunch", "body": "At noon?"}
    with mail_api(entra) as call:
        ann, bob = entra.sign_in(ANN), entra.sign_in("bob@contoso.com")
        for assertion, username in ((ann, ANN), (bob, "bob@contoso.com")) * 2:
            profile = call("/profile", assertion).json()
            assert profile["id"] == profile["graph"]["oid"] == entra.add_user(username)
            assert call("/messages", assertion).status_code == 200
            assert call("/send", assertion, **message).status_code == 202
        assert call("/ready", "").json() == {"status": "ready"}
    sent = [each for each in entra.requests if each.kind == "graph" and "sendMail" in each.path]
    assert len(sent) == 4
    assert (entra.count(username=ANN), entra.count()) == (3, 6)


def test_the_api_of_three_routes_tells_its_callers_what_to_do(entra):
    ann = entra.sign_in(ANN)
    with mail_api(entra) as call:
        assert call("/profile", "").status_code == 401
        assert call("/profile", f"{ann}x").status_code == 401
        assert call("/profile", entra.sign_in(ANN, scopes=["Other"])).status_code == 403
        assert call("/send", ann, to="bob@contoso.com").status_code == 422
        entra.require_mfa(ANN)
        refused = call("/messages", ann)
        assert refused.status_code == 401
        claims = read(401, [refused.headers["WWW-Authenticate"]]).claims
        assert call("/messages", entra.sign_in(ANN, claims=claims)).status_code == 200
        entra.fail_next(path="graph", status=500)
        assert call("/messages", entra.sign_in(ANN, claims=claims)).status_code == 502


class Browser:
    """A browser at the web app, which keeps its cookies, and who sits before it."""

    def __init__(self, url: str, entra: EntraEmulator, username: str) -> None:
        self._url, self._entra, self._username = url, entra, username
        self._http = requests.Session()

    def get(self, path: str = "/", **params: str) -> requests.Response:
        return self._http.get(self._url + path, params=params, allow_redirects=False, timeout=30)

    def press_sign_out(self) -> str:
        answer = self._http.post(f"{self._url}/sign-out", allow_redirects=False, timeout=30)
        assert answer.status_code == 302
        return answer.headers["Location"]

    def go_to_entra(self, **does: bool) -> dict[str, str]:
        """Is sent to the sign-in page; gives what the app is told of what came of it."""
        answer = self.get()
        assert (answer.status_code, answer.headers["Location"]) == (302, "/sign-in")
        answer = self.get("/sign-in")
        assert answer.status_code == 302, answer.text
        return dict(self._entra.authorize(answer.headers["Location"], self._username, **does))

    def sign_in(self, **does: bool) -> dict[str, str]:
        """Signs in; gives what the app was told."""
        told = self.go_to_entra(**does)
        answer = self.get("/signed-in", **told)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/")
        return told

    def shows(self) -> str:
        answer = self.get()
        assert answer.status_code == 200, answer.text
        return answer.text


@contextmanager
def web_app(entra: EntraEmulator, folder: Path) -> Iterator[Callable[[str], Browser]]:
    """The web app, served by two workers: makes browsers at it, each of a user."""
    entra.protect_api(audience="https://graph.microsoft.com", scopes=["User.Read"])
    entra.add_redirect_uri("http://127.0.0.1/signed-in")
    with serving(
        *("gunicorn", "--chdir=examples", "--workers=2", "web_app:app"),
        GRAPH_URL=f"{entra.url}/graph/v1.0",
        FLASK_SECRET_KEY="the key of the app's cookies",
        TOKENMGR_STORE=f"sqlite:///{folder}/users.db",
        TOKENMGR_ENCRYPTION_KEY="0123456789-the-key-of-all-records",
        **entra.environment(),
    ) as served:
        url = served.url

        def browser(username: str) -> Browser:
            entra.add_user(username)
            return Browser(url, entra, username)

        yield browser


@needs_fork
def test_the_web_app_knows_its_users_apart_in_every_worker(entra, tmp_path):
    with web_app(entra, tmp_path) as browser:
        ann, bob = browser(ANN), browser("bob@contoso.com")
        ann.sign_in()
        bob.sign_in()
        for _ in range(8):
            assert f"<h1>{ANN}</h1>" in ann.shows()
            assert "<h1>bob@contoso.com</h1>" in bob.shows()
        assert (entra.count(), entra.api_calls) == (2, 16)
        elsewhere = browser(ANN)
        elsewhere.sign_in()
        away = ann.press_sign_out()
        assert away.startswith(entra.url)
        assert "/oauth2/v2.0/logout?" in away
        for _ in range(4):
            assert ann.get().status_code == 302, "to the sign-in page"
            assert "bob@contoso.com" in bob.shows()
        assert elsewhere.get().status_code == 302, "the user's session is erased, wherever they are"
        assert ann.press_sign_out() == "/"


@needs_fork
def test_the_web_app_asks_its_users_for_what_entra_wants_of_them(entra, tmp_path):
    with web_app(entra, tmp_path) as browser:
        ann = browser(ANN)
        entra.fail_next(99, path="discovery")
        assert ann.get("/sign-in").status_code == 503
        entra.recover()
        told = ann.go_to_entra(accept=False)
        assert ann.get("/signed-in", **told).status_code == 403
        stranger = browser("eve@contoso.com")
        told = ann.sign_in()
        for who in (stranger, ann):
            assert who.get("/signed-in", **told).status_code == 400, "an answer serves once"
        assert ANN in ann.shows()
        entra.require_mfa(ANN)
        entra.revoke_tokens()
        ann.sign_in(mfa=True)
        assert ANN in ann.shows()
        entra.fail_next(path="graph")
        answer = ann.get()
        assert (answer.status_code, "try again later" in answer.text) == (503, True)
        assert ANN in ann.shows()


@contextmanager
def command_line(
    entra: EntraEmulator, *arguments: str, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """The command line whose user signs in with a code, at the emulator."""
    entra.add_user(ANN)
    entra.device_code_interval = 0
    named = entra.environment()
    named |= {"AZURE_CLIENT_ID": entra.add_client("the-command-line", public=True)}
    del named["AZURE_CLIENT_SECRET"]
    with running(
        "examples/device_code.py",
        *("--url", f"{entra.url}/graph/v1.0/me", "--interval", "0.05", *arguments),
        stderr=subprocess.STDOUT,
        **(named | more),
    ) as process:
        yield process


def code_in(said: str) -> str:
    return re.findall(r"enter the code (\w+)", said)[-1]


def test_the_command_line_goes_on_for_a_user_who_has_signed_in_once(entra):
    entra.token_lifetime = 2
    with command_line(entra) as process:
        entra.enter_device_code(code_in(read_until(process, "to authenticate")), ANN)
        assert f"{ANN} has signed in" in read_until(process, "has signed in")
        until(lambda: entra.count(grant_type="refresh_token") >= 2)
        calls = entra.api_calls
        until(lambda: entra.api_calls > calls)
        entra.revoke(ANN)
        entra.revoke_tokens()
        said = read_until(process, "to authenticate")
        assert "sign in" in said
        entra.enter_device_code(code_in(said), ANN)
        read_until(process, "has signed in")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    assert "Traceback" not in said


def test_the_command_line_remembers_its_user(entra, tmp_path):
    kept = {
        "TOKENMGR_STORE": f"sqlite:///{tmp_path}/tokens.db",
        "TOKENMGR_ENCRYPTION_KEY": "0123456789-the-key-of-all-records",
    }
    with command_line(entra, "--count", "1", **kept) as process:
        entra.enter_device_code(code_in(read_until(process, "to authenticate")), ANN)
        process.communicate()
    with command_line(entra, "--count", "1", **kept) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "enter the code" not in said
    assert '"' in said


def test_the_command_line_says_when_its_user_says_no(entra):
    with command_line(entra) as process:
        code = code_in(read_until(process, "to authenticate"))
        entra.enter_device_code(code, ANN, accept=False)
        said, _ = process.communicate()
    assert process.returncode == 1
    assert said.startswith("ConsentRequiredError: ")
    assert entra.api_calls == 0


def test_the_worker_does_all_its_jobs_with_one_token(entra):
    jobs = [f"job-{number}" for number in range(20)]
    settings = entra.environment()
    done = run(
        "examples/worker_httpx.py", "--url", f"{entra.url}/graph/v1.0/{{job}}", *jobs, **settings
    )
    assert done.returncode == 0, done.stderr
    assert all(f"/{job} answered with 200" in done.stderr for job in jobs)
    assert (entra.api_calls, entra.count()) == (20, 1)
    assert "CP1" in entra.requests[-21].form["claims"]


def test_the_worker_goes_on_where_there_is_no_token(entra):
    entra.expire_secret()
    settings = entra.environment()
    url = f"{entra.url}/graph/v1.0/{{job}}"
    done = run("examples/worker_httpx.py", "--url", url, "1", "2", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ERROR InvalidCredentialError") == 2
    assert entra.api_calls == 0


def test_the_crawler_reads_all_pages_with_one_token(entra):
    urls = [f"{entra.url}/graph/v1.0/{name}" for name in ("users", "groups", "sites")]
    settings = entra.environment()
    done = run("examples/crawler_aiohttp.py", *urls, **settings)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(f"200 {url} 1" for url in urls)
    assert (entra.api_calls, entra.count()) == (3, 1)


@pytest.mark.skipif(not redis_servers.BINARIES, reason="no Redis server is installed")
def test_the_processes_of_the_celery_worker_have_one_token(entra):
    with contextlib.ExitStack() as stack:
        binary = next(iter(redis_servers.BINARIES.values()))
        redis = stack.enter_context(redis_servers.running_server(binary)).url
        queue = {"CELERY_BROKER_URL": redis, "CELERY_RESULT_BACKEND": redis}
        worker = stack.enter_context(
            running(
                *("-m", "celery", "--workdir", "examples", "--app", "celery_worker"),
                *("worker", "--concurrency", "4", "--loglevel", "INFO"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                TOKENMGR_STORE=f"{redis}/1",
                **queue,
                **entra.environment(),
            )
        )
        with celery.Celery(broker=redis, backend=redis) as app:
            url = f"{entra.url}/graph/v1.0/users"
            calls = [app.send_task("celery_worker.call", [url]) for _ in range(12)]
            assert [each.get(timeout=30) for each in calls] == [200] * 12
            assert (entra.api_calls, entra.count()) == (12, 1)
            entra.unknown_resources = {"api://nowhere"}
            entra.fail_next(99, status=429, retry_after=30, scope="api://orders/.default")
            hopeless = app.send_task("celery_worker.call", [url, "api://nowhere/.default"])
            later = app.send_task("celery_worker.call", [url, "api://orders/.default"])
            until(lambda: hopeless.state == "FAILURE", "an error that asking again does not mend")
            until(lambda: later.state == "RETRY", "another try")
        worker.terminate()
        _, log = worker.communicate()
    assert len(set(re.findall(r"ForkPoolWorker-\d", log))) > 1
    assert "InvalidScopeError" in log
    assert entra.client_secret not in log


SIDECAR_APPS = {
    "flask": ("gunicorn", "--chdir=examples", "sidecar_flask:app"),
    "django": ("gunicorn", "--chdir=examples", "sidecar_django:application"),
    "fastapi": ("uvicorn", "--app-dir=examples", "sidecar_fastapi:app"),
}


@contextmanager
def sidecar_app(
    framework: str, sidecar: EmulatedSidecar
) -> Iterator[Callable[..., requests.Response]]:
    """An API next to a sidecar: calls it."""
    with serving(*SIDECAR_APPS[framework], SIDECAR_URL=sidecar.url) as served:
        url = served.url

        def call(path: str, token: str | None = None, **request: Any) -> requests.Response:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            method = "POST" if request else "GET"
            return requests.request(method, f"{url}{path}", headers=headers, timeout=30, **request)

        yield call


MESSAGE = {"to": "bob@contoso.com", "subject": "Hello", "body": "How are you?"}


@needs_fork
@pytest.mark.parametrize("framework", SIDECAR_APPS)
def test_an_api_calls_graph_through_the_sidecar_for_each_of_its_callers(entra, framework):
    entra.protect_api(audience="https://graph.microsoft.com", scopes=["User.Read"])
    tokens = {name: entra.sign_in(name) for name in (ANN, "bob@contoso.com")}
    with entra.sidecar() as sidecar, sidecar_app(framework, sidecar) as call:
        for token in tokens.values():
            for _ in range(3):
                assert call("/api/profile", token).json()["value"] == [{"id": "me"}]
            assert call("/api/messages", token).json()["value"] == [{"id": "me/messages"}]
            sent = call("/api/messages/send", token, json=MESSAGE)
            assert (sent.status_code, sent.json()) == (202, {"status": "sent"})
    calls = [(each.method, each.path) for each in entra.requests if each.kind == "graph"]
    assert calls.count(("POST", "/graph/v1.0/me/sendMail")) == 2
    for name in tokens:
        assert entra.count(username=name) == 1
        assert sum(each.username == name for each in entra.requests if each.kind == "graph") == 5


@needs_fork
@pytest.mark.parametrize("framework", SIDECAR_APPS)
def test_an_api_next_to_a_sidecar_tells_its_callers_what_to_do(entra, framework):
    ann, bob = entra.sign_in(ANN), "bob@contoso.com"
    with entra.sidecar() as sidecar, sidecar_app(framework, sidecar) as call:
        refused = call("/api/profile")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (
            401,
            'Bearer realm=""',
        )
        for useless in ("opaque", f"{ann}x", entra.sign_in(ANN, lifetime=-1)):
            for refused in (
                call("/api/messages", useless),
                call("/api/messages/send", useless, json=MESSAGE),
            ):
                assert refused.status_code == 401
                assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        for malformed in ({"json": {"to": bob}}, {"json": [1]}, {"json": None, "data": "{"}):
            assert call("/api/messages/send", ann, **malformed).status_code in (400, 415, 422)
        entra.require_mfa(ANN)
        assert call("/api/profile", ann).status_code == 401
        entra.add_user(bob)
        entra.withdraw_consent(bob)
        assert call("/api/profile", entra.sign_in(bob)).status_code == 403
        entra.grant_consent(bob)
        entra.fail_next(9, status=429)
        assert call("/api/profile", entra.sign_in(bob)).status_code == 503
        entra.recover()
        entra.fail_next(path="graph", status=404)
        assert call("/api/profile", entra.sign_in(bob)).status_code == 502
        assert call("/api/profile", entra.sign_in(bob)).status_code == 200
        entra.fail_next(path="sidecar", status=503, retry_after=30)
        late = call("/api/profile", entra.sign_in(bob))
        assert (late.status_code, late.headers["Retry-After"]) == (503, "30")
        sidecar.close()
        gone = call("/api/profile", entra.sign_in(bob))
        assert gone.status_code == 503
        assert "localhost" not in gone.text, "what is inside is nobody's business"
