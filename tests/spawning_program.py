"""A program that uses multiprocessing; its argument is the way in which children are started."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from typing import Any

from support import SCOPE

from tokenmgr import ClientSecret, TokenRegistry


def from_configuration(answers: Connection) -> None:
    """What a child does that makes a registry of its own."""
    with TokenRegistry.from_env() as tokens:
        answers.send(tokens.get_access_token(SCOPE))


def use(tokens: TokenRegistry, answers: Connection) -> None:
    """What a child does that inherits one."""
    answers.send(tokens.get_access_token(SCOPE))


def ask(context: Any, work: Any, *arguments: Any) -> str:
    """Has a child do ``work``, and gives its answer."""
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(*arguments, theirs))
    child.start()
    try:
        theirs.close()
        answer = mine.recv() if mine.poll(20) else "nothing came"
        child.join(20)
        return answer if child.exitcode == 0 else f"ended with {child.exitcode}"
    finally:
        child.kill()


def refusal(context: Any, *arguments: Any) -> str:
    """What is said to who passes them to a child as they are."""
    try:
        context.Process(target=print, args=arguments).start()
    except TypeError as exc:
        return str(exc)
    return "it was passed on"


def main(method: str) -> dict[str, Any]:
    """Does it all, and tells what came of it."""
    context = multiprocessing.get_context(method)
    tokens = TokenRegistry.from_env()
    outcome: dict[str, Any] = {"parent": tokens.get_access_token(SCOPE)}
    outcome["made there"] = ask(context, from_configuration)
    if method == "fork":
        outcome["inherited"] = ask(context, use, tokens)
    else:
        secret = ClientSecret(os.environ["AZURE_CLIENT_SECRET"])
        passed = (tokens, tokens.manager(SCOPE), secret)
        outcome["refusals"] = [refusal(context, each) for each in passed]
    return outcome


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))  # noqa: T201 - a program
