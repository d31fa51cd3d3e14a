"""Asks a model of Azure OpenAI, with a token that is always ready, and another where it is refused.

It finds its app in the environment, as daemon_requests.py does, and trusts the certificates of
SSL_CERT_FILE, if that is set. See README.md next to it.

    pip install 'tokenmgr[httpx2]' openai
    python examples/openai_client.py https://contoso.openai.azure.com/openai/v1 gpt-5 'Why?' …
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from urllib.parse import urlsplit

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError

from tokenmgr import TokenManagerError, TokenRegistry
from tokenmgr.http.httpx2 import BearerAuth

SCOPE = "https://cognitiveservices.azure.com/.default"


async def main() -> int:
    """Asks all questions at once."""
    parser = argparse.ArgumentParser(description="Ask a model.")
    parser.add_argument("url", help="such as https://contoso.openai.azure.com/openai/v1")
    parser.add_argument("model", help="the name of the deployment")
    parser.add_argument("questions", nargs="+")
    options = parser.parse_args()

    async with TokenRegistry.from_env(cae=True) as tokens:
        manager = tokens.manager(SCOPE)
        # The callable is all that is needed for a token. It knows nothing of answers: a refused
        # token, or a claims challenge, is for the client that sends.
        auth = BearerAuth(manager, hosts=urlsplit(options.url).netloc, replace_header=True)
        async with AsyncOpenAI(
            base_url=options.url,
            api_key=manager.aget_access_token,
            http_client=DefaultAsyncHttpxClient(auth=auth),
        ) as client:
            answers = await asyncio.gather(
                *(ask(client, options.model, question) for question in options.questions)
            )
    return 0 if all(answers) else 1


async def ask(client: AsyncOpenAI, model: str, question: str) -> bool:
    """Asks a question, and says whether there was an answer."""
    try:
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}]
        )
    except (TokenManagerError, OpenAIError) as error:
        print(f"{question} {type(error).__name__}: {error}", file=sys.stderr)
        return False
    print(question, answer.choices[0].message.content)
    return True


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
