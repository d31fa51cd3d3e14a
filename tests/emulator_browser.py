"""A browser without scripts: opens the emulator's pages, fills in their forms, keeps cookies."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests


class Page(HTMLParser):
    """What a person sees of a page, and what its form would send."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.status = response.status_code
        self.url = response.url
        self.title = self.text = self.alert = self.action = ""
        self.fields: dict[str, str] = {}
        self.hints: dict[str, str] = {}
        self.buttons: list[tuple[str, str]] = []
        self._in: list[str] = []
        self.feed(response.text)

    def handle_starttag(self, tag, attrs):
        known = {name: value or "" for name, value in attrs}
        self._in.append("alert" if known.get("role") == "alert" else tag)
        if tag == "form":
            self.action = urljoin(self.url, known["action"])
        elif tag == "input":
            self.fields[known["name"]] = known.get("value", "")
            self.hints[known["name"]] = known.get("placeholder", "")
        elif tag == "button":
            self.buttons.append((known["name"], known["value"]))

    def handle_data(self, data):
        if self._in and self._in[-1] == "h1":
            self.title = data
        if self._in and self._in[-1] == "alert":
            self.alert += data
        self.text += data

    def handle_endtag(self, tag):
        if self._in:
            self._in.pop()


class Landed:
    """The app's address to which a browser was sent, and what it brought there."""

    def __init__(self, location: str) -> None:
        address = urlsplit(location)
        self.query = dict(parse_qsl(address.query, keep_blank_values=True))
        self.fragment = dict(parse_qsl(address.fragment, keep_blank_values=True))
        self.uri = address._replace(query="", fragment="").geturl()


class PageBrowser:
    def __init__(self, http: requests.Session) -> None:
        self.http = http
        self.page: Any = None

    def open(self, url: str, **params: Any) -> Any:
        return self._show(self.http.get(url, params=params or None, allow_redirects=False))

    def press(self, button: str = "next", **fields: str) -> Any:
        """Fills in the form's fields, and presses the button that has this value."""
        named = {value: name for name, value in self.page.buttons}
        assert set(fields) <= set(self.page.fields), (self.page.title, self.page.fields)
        form = self.page.fields | fields | {named[button]: button}
        return self._show(self.http.post(self.page.action, data=form, allow_redirects=False))

    def sign_in(self, emulator: Any, username: str) -> Any:
        return self.press(username=username, password=emulator.password(username))

    def _show(self, response: requests.Response) -> Any:
        if response.is_redirect:
            return Landed(response.headers["Location"])
        self.page = Page(response)
        return self.page
