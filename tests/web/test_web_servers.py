"""Protected APIs behind real servers: one that forks, and its workers."""

from __future__ import annotations

import pytest
from fork_marks import needs_fork
from gunicorn_servers import gunicorn
from waiting import until

from tokenmgr.emulator import EntraEmulator

ANN = "ann@contoso.com"
UVICORN = "--worker-class=uvicorn_worker.UvicornWorker"


@needs_fork
@pytest.mark.parametrize("preload", [True, False], ids=["preload", "each its own"])
def test_each_worker_makes_one_registry_and_asks_once(entra: EntraEmulator, preload: bool) -> None:
    headers = {"Authorization": f"Bearer {entra.sign_in(ANN)}"}
    options = (UVICORN, *(("--preload",) if preload else ()))
    with gunicorn(
        "protected_app:app", *options, workers=2, headers=headers, **entra.environment()
    ) as server:
        until(lambda: server.have_answered(2), "an answer of both workers")
        server.ask()
        log = server.stop()
    for pid, answers in server.tokens.items():
        (answer,) = answers  # one token, however often it was asked
        assert answer.startswith(f"[{pid}] ")
    assert entra.count(username=ANN) == 2
    assert sum("/keys" in each.path for each in entra.requests) == 2
    assert "Traceback" not in log


@needs_fork
def test_the_workers_have_the_registry_of_before_the_fork(entra: EntraEmulator) -> None:
    headers = {"Authorization": f"Bearer {entra.sign_in(ANN)}"}
    with gunicorn(
        "protected_app:preloaded()",
        *(UVICORN, "--preload"),
        workers=2,
        headers=headers,
        **entra.environment(),
    ) as server:
        until(lambda: server.have_answered(2), "an answer of both workers")
        server.ask()
        log = server.stop()
    made = {answer.partition("]")[0] for answers in server.tokens.values() for answer in answers}
    (of_parent,) = made
    assert of_parent.strip("[") not in {str(pid) for pid in server.tokens}
    assert all(len(answers) == 1 for answers in server.tokens.values())
    assert entra.count(grant_type="client_credentials") == 1
    assert entra.count(username=ANN) == 2
    assert "Traceback" not in log
