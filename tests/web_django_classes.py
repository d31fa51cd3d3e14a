"""What Django has besides that which every framework's module does, with its own routes.

It is inherited beside the suite of ``web_compliance``, for which ``web_django`` has the routes.
"""

from __future__ import annotations

import pytest
from web_compliance import READ, Ask, bearer

from tokenmgr.emulator import EntraEmulator


class ClassesOfViews:
    """What is so of classes of views, with the middleware and without."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_class_of_views_needs_what_its_class_and_its_method_say(
        self, ask: Ask, kind: str, entra: EntraEmulator, who: str, method: str
    ) -> None:
        def status(*scopes: str) -> int:
            return ask(
                f"{kind}/class", bearer(entra.sign_in(who, scopes=scopes)), method=method
            ).status

        assert ask(f"{kind}/class", method=method).status == 401
        assert status("Orders.Write") == 403
        assert status(READ) == (200 if method == "GET" else 403)
        assert status(READ, "Orders.Write") == 200
