"""A Celery worker whose tasks call an API, all processes and hosts with one token.

It finds its app in the environment, as daemon_requests.py does, its queue in CELERY_BROKER_URL and
CELERY_RESULT_BACKEND, and what its processes share in TOKENMGR_STORE. See README.md next to it.

    pip install 'tokenmgr[redis]' celery
    export CELERY_BROKER_URL=redis://localhost/0 TOKENMGR_STORE=redis://localhost/1
    celery --workdir examples --app celery_worker worker
"""

from __future__ import annotations

from urllib.parse import urlsplit

import requests
from celery import Celery, Task

from tokenmgr import TokenManagerError, TokenRegistry
from tokenmgr.http.requests import BearerAuth

app = Celery("celery_worker")
# Made before the worker forks: its processes keep the tokens, and make all else anew.
tokens = TokenRegistry.from_env()


@app.task(bind=True, max_retries=3)
def call(self: Task, url: str, scope: str = "https://graph.microsoft.com/.default") -> int:
    """Calls an API, and gives the status of its answer."""
    try:
        auth = BearerAuth(tokens.manager(scope), hosts=urlsplit(url).netloc)
        return requests.get(url, auth=auth, timeout=10).status_code
    except TokenManagerError as error:
        if not error.retryable:
            raise
        # The service has said when it is worth a try, or nothing.
        raise self.retry(countdown=error.retry_after or 15, exc=None) from None
