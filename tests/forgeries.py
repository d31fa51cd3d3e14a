"""Bearers that no API may accept, made with real keys: one table for whatever validates them.

::

    @pytest.mark.parametrize("name", FORGERIES)
    def test_no_forgery_passes(entra, name):
        forged = Forger(entra).forge(name)
        answer = call(headers=[("Authorization", value) for value in forged.authorization])
        assert answer.status == forged.status

They are for the API of the emulator's first app, in its first tenant. joserfc has signed them, or
cryptography where joserfc writes no such thing; and joserfc's verdict stands beside each.
"""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from tokenmgr.emulator import EntraEmulator

__all__ = ["FORGERIES", "HEADERS", "Forged", "Forger", "encoded", "joserfc_takes", "own_key"]

ANN = "ann@contoso.com"
OTHER_TENANT = "99999999-8888-7777-6666-555555555555"
GRAPH = "https://graph.microsoft.com"
LEEWAY = 60


class Forged(NamedTuple):
    """What is sent, and what is to come of it."""

    name: str
    #: The values of the Authorization headers.
    authorization: list[str]
    status: int = 401
    #: That of RFC 6750; None where no bearer was sent.
    error: str | None = "invalid_token"
    #: Whether joserfc takes it, asked for the same issuer, audience and times; None where that
    #: depends on the version of Python.
    by_joserfc: bool | None = False
    #: What the message says.
    says: str = ""


class _Row(NamedTuple):
    make: Callable[[Forger], str | list[str]]
    expected: dict[str, Any]


#: By their names.
FORGERIES: dict[str, _Row] = {}


def _row(name: str, make: Callable[[Forger], str | list[str]], **expected: Any) -> None:
    assert name not in FORGERIES
    FORGERIES[name] = _Row(make, expected)


@cache
def own_key() -> RSAKey:
    """The key of whoever forges."""
    return RSAKey.generate_key(2048, auto_kid=True)


def encoded(content: bytes | str) -> str:
    """A part of a JWT."""
    data = content.encode() if isinstance(content, str) else content
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Forger:
    """Makes them, for an emulator that runs."""

    def __init__(self, entra: EntraEmulator) -> None:
        self.entra = entra
        self.key: RSAKey = entra._state.signer._key
        self.now = int(time.time())

    def forge(self, name: str) -> Forged:
        """The forgery of that name."""
        made, expected = FORGERIES[name].make(self), FORGERIES[name].expected
        values = made if isinstance(made, list) else [f"Bearer {made}"]
        return Forged(name, values, **expected)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token; what is None is left out."""
        self.entra.add_user(ANN)
        token = self.entra.sign_in(ANN)
        good = jwt.decode(token, self.key, algorithms=["RS256"]).claims | changes
        return {name: value for name, value in good.items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        """That of a good token; what is None is left out."""
        header = {"alg": "RS256", "typ": "JWT", "kid": self.key.kid} | changes
        return {name: value for name, value in header.items() if value is not None}

    def token(self, **changes: Any) -> str:
        """A token that the authority has signed, with other claims than it gives."""
        return jwt.encode(self.header(), self.claims(**changes), self.key, algorithms=["RS256"])

    def foreign(self, algorithm: str = "RS256", key: Any = None, **header: Any) -> str:
        """A token that somebody else has signed, with this header."""
        header = self.header(alg=algorithm, **header)
        payload = encoded(json.dumps(self.claims()))
        return self.raw(json.dumps(header), payload, key or own_key(), algorithm)

    def raw(
        self,
        header: str | bytes,
        payload: str,
        key: Any = None,
        algorithm: str = "RS256",
    ) -> str:
        """A token of any header and payload (in base64), rightly signed."""
        key = key or self.key
        signing_input = f"{encoded(header)}.{payload}"
        if algorithm == "HS256":  # joserfc refuses such secrets
            return f"{signing_input}.{encoded(hmac.digest(key, signing_input.encode(), 'sha256'))}"
        if algorithm == "RS256":
            signature = key.private_key.sign(
                signing_input.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            return f"{signing_input}.{encoded(signature)}"
        from joserfc.jws import JWSRegistry

        signature = (
            JWSRegistry(algorithms=[algorithm]).get_alg(algorithm).sign(signing_input.encode(), key)
        )
        return f"{signing_input}.{encoded(signature)}"

    def as_graph_signs(self) -> str:
        """A token for Microsoft Graph: what is signed has a digest where the header has a nonce."""
        payload = encoded(json.dumps(self.claims(aud=GRAPH)))
        signed = self.raw(json.dumps(self.header(nonce="the digest of a nonce")), payload)
        header = encoded(json.dumps(self.header(nonce="a nonce")))
        return f"{header}.{payload}.{signed.rpartition('.')[2]}"

    def with_payload(self, payload: str | bytes, **header: Any) -> str:
        """A token of the authority's, with this text for its claims."""
        return self.raw(json.dumps(self.header(**header)), encoded(payload))

    def with_claim(self, text: str) -> str:
        """A token of the authority's whose JSON has this member at its end, as it is written."""
        name = text.partition(":")[0].strip('" ')
        whole = json.dumps({k: v for k, v in self.claims().items() if k != name})
        return self.with_payload(f"{whole[:-1]}, {text}}}")

    def with_header(self, text: str) -> str:
        """A token of the authority's with this text for its header."""
        return self.raw(text, encoded(json.dumps(self.claims())))


def joserfc_takes(entra: EntraEmulator, token: str) -> bool:
    """Whether joserfc takes a token, asked for the first app and tenant, as strictly as it can."""
    forger = Forger(entra)
    registry = jwt.JWTClaimsRegistry(
        leeway=LEEWAY,
        iss={"essential": True, "value": forger.claims()["iss"]},
        aud={"essential": True, "values": [entra.client_id, f"api://{entra.client_id}"]},
        exp={"essential": True},
    )
    try:
        decoded = jwt.decode(token, KeySet([forger.key]), algorithms=["RS256"])
        registry.validate(decoded.claims)
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return False
    return True


# Nothing, or what is no bearer

_SENT = {"error": None, "says": "no bearer was sent"}
_row("no header", lambda f: [], **_SENT)
_row("an empty header", lambda f: [""], **_SENT)
_row("spaces", lambda f: ["   "], **_SENT)
_row("another scheme", lambda f: ["Basic YW5uOnNlY3JldA=="], **_SENT)
_row("a token without a scheme", lambda f: [f.token()], **_SENT)
_row("a scheme glued to its token", lambda f: [f"Bearer{f.token()}"], **_SENT)
_row("a scheme alone", lambda f: ["Bearer"], says="no token behind Bearer")
_row("two headers", lambda f: [f"Bearer {f.token()}"] * 2, says="more than one")
_row(
    "two headers in one, as WSGI joins them",
    lambda f: [f"Bearer {f.token()},Bearer {f.token()}"],
    says="characters",
)
_row("two tokens", lambda f: f"{f.token()} {f.token()}", says="characters")
_row("not ASCII", lambda f: f"{f.token()}ä", says="characters")
_row("full-width letters", lambda f: f.token().replace("e", "\uff45"), says="characters")
_row("a control character", lambda f: f"{f.token()}\x00", says="characters")
_row("padding", lambda f: f"{f.token()}==", says="characters")
_row("quotes", lambda f: f'"{f.token()}"', says="characters")

#: Those whose header is wrong, whatever its token is.
HEADERS = tuple(FORGERIES)

# What is no JWT

_row("opaque", lambda f: "EwBwA8l6BAAUO9chh8cJscQLmU-LSWpbnr0vmwwAAQ", says="opaque")
_row("of two parts", lambda f: f.token().rpartition(".")[0], says="no JWT")
_row("of four parts", lambda f: f"{f.token()}.more", says="no JWT")
_row("encrypted", lambda f: "a.b.c.d.e", says="encrypted")
_row("dots alone", lambda f: "..", says="can be read")
_row("random parts", lambda f: "abc.def.ghi", says="can be read")
_row("oversized", lambda f: f.token(pad="x" * 16_384), by_joserfc=True, says="16 KiB")
_row("a header that is a list", lambda f: f.with_header('["RS256"]'), says="can be read")
_row("a header that is deep", lambda f: f.with_header('{"a":' * 900 + "1" + "}" * 900))
_row("a header of NaN", lambda f: f.with_header("NaN"))
_row("a header in UTF-16", lambda f: f.raw("{}".encode("utf-16"), "e30"))
_row("claims that are a list", lambda f: f.with_payload("[]"))
_row("claims that are a text", lambda f: f.with_payload('"claims"'))
_row("claims that are empty", lambda f: f.with_payload(""))
_row("no claims", lambda f: f.with_payload("{}"))
_row("claims not in UTF-8", lambda f: f.with_payload(b'{"sub": "\xff"}'))
_row(
    "claims in UTF-16",
    lambda f: f.with_payload(json.dumps(f.claims()).encode("utf-16")),
    by_joserfc=True,
)
_row(
    "a lone surrogate",
    lambda f: f.with_claim('"name": "\\ud800"'),
    by_joserfc=True,
    says="can be read",
)

# Signed by nobody, or by somebody else

_UNSIGNED = {"says": "signed in a way"}
for _name in ("none", "None", "NONE", "nOnE"):
    _row(
        f"alg {_name}",
        lambda f, alg=_name: (
            f.raw(json.dumps(f.header(alg=alg)), encoded(json.dumps(f.claims()))).rpartition(".")[0]
            + "."
        ),
        **_UNSIGNED,
    )
_row("alg none, signed", lambda f: f.with_header(json.dumps(f.header(alg="none"))), **_UNSIGNED)
_row("no alg", lambda f: f.with_header(json.dumps(f.header(alg=None))), **_UNSIGNED)
_row("an empty alg", lambda f: f.with_header(json.dumps(f.header(alg=""))), **_UNSIGNED)
_row("an alg that is a list", lambda f: f.with_header(json.dumps(f.header(alg=["RS256"]))))
_row("an alg that is a dict", lambda f: f.with_header(json.dumps(f.header(alg={"RS256": 1}))))
_row(
    "HS256 by the public key in PEM",
    lambda f: f.foreign("HS256", f.key.as_pem(private=False)),
    **_UNSIGNED,
)
_row(
    "HS256 by the public key in DER",
    lambda f: f.foreign("HS256", f.key.as_der(private=False)),
    **_UNSIGNED,
)
_row(
    "HS256 by the public key as it is published",
    lambda f: f.foreign("HS256", json.dumps(f.key.as_dict(private=False)).encode()),
    **_UNSIGNED,
)
_row(
    "ES256 under the authority's key's name",
    lambda f: f.foreign("ES256", ECKey.generate_key("P-256")),
    **_UNSIGNED,
)
_row("PS256 by the authority's key", lambda f: f.foreign("PS256", f.key), **_UNSIGNED)
_row("RS512 by the authority's key", lambda f: f.foreign("RS512", f.key), **_UNSIGNED)
_FOREIGN = {"says": "not signed by the authority"}
_row("another's key", lambda f: f.foreign(), **_FOREIGN)
_row(
    "another's key, embedded",
    lambda f: f.foreign(jwk=own_key().as_dict(private=False)),
    **_FOREIGN,
)
_row(
    "another's key, embedded under its own name",
    lambda f: f.foreign(jwk=own_key().as_dict(private=False), kid=own_key().kid),
    says="a key that the authority does not have",
)
_row("another's certificate", lambda f: f.foreign(x5c=["MIIB"]), **_FOREIGN)
_row(
    "another's keys by their address",
    lambda f: f.foreign(jku=f"{f.entra.url}/{OTHER_TENANT}/discovery/v2.0/keys"),
    **_FOREIGN,
)
_row("another's certificate by its address", lambda f: f.foreign(x5u="https://evil/"), **_FOREIGN)
_row("no signature", lambda f: f.token().rpartition(".")[0] + ".", **_FOREIGN)
_row("another's signature", lambda f: f"{f.token()[:-20]}{'A' * 20}")
_row(
    "changed claims",
    lambda f: ".".join(
        (
            (parts := f.token().split("."))[0],
            encoded(json.dumps(f.claims(scp="admin"))),
            parts[2],
        )
    ),
    **_FOREIGN,
)

# The header

_UNKNOWN = {"says": "a key that the authority does not have"}
_row("another kid", lambda f: f.with_header(json.dumps(f.header(kid="another"))), **_UNKNOWN)
_row("an empty kid", lambda f: f.with_header(json.dumps(f.header(kid=""))), **_UNKNOWN)
_row("a kid that is a path", lambda f: f.foreign(kid="../../../dev/null"), **_UNKNOWN)
_row("a kid that is SQL", lambda f: f.foreign(kid="' OR 1=1 --"), **_UNKNOWN)
_row("a kid of all planes", lambda f: f.foreign(kid="\U0001f511\u202e\x00"), **_UNKNOWN)
_row(
    "no kid",
    lambda f: f.with_header(json.dumps(f.header(kid=None))),
    by_joserfc=True,
    **_UNKNOWN,
)
for _kid in (7, 1.5, True, None, [], {}, ["a"], {"a": 1}):
    _row(
        f"a kid that is {_kid!r}",
        lambda f, kid=_kid: f.with_header(json.dumps(f.header() | {"kid": kid})),
    )
_row(
    "an unknown crit",
    lambda f: f.with_header(json.dumps(f.header(crit=["exp2"], exp2=1))),
    says="can be read",
)
_row(
    "a crit of nothing",
    lambda f: f.with_header(json.dumps(f.header(crit=[]))),
    by_joserfc=True,
)
_row("a crit that is a text", lambda f: f.with_header(json.dumps(f.header(crit="exp"))))
_row(
    "a crit of b64, detached",
    lambda f: f.with_header(json.dumps(f.header(crit=["b64"], b64=False))),
)
_row("b64 without a crit", lambda f: f.with_header(json.dumps(f.header(b64=False))))
for _kind in ("logout+jwt", "secevent+jwt", "dpop+jwt", 7, None):
    _row(
        f"a token that says it is {_kind!r}",
        lambda f, kind=_kind: f.with_header(json.dumps(f.header() | {"typ": kind})),
        by_joserfc=_kind not in (7, None),
    )

# Times

_row("expired", lambda f: f.token(exp=f.now - 3600), says="has expired")
_row("just expired", lambda f: f.token(exp=f.now - LEEWAY - 5), says="has expired")
_row("not yet valid", lambda f: f.token(nbf=f.now + 3600), says="not valid yet")
_row("issued tomorrow", lambda f: f.token(iat=f.now + 86_400), says="not valid yet")
_row("no end", lambda f: f.token(exp=None), says="lacks")
for _exp in (
    *("null", "true", '"9999999999"', '"soon"', "[]", "[9999999999]", '{"a": 1}'),
    *("1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 400, "1e300", "-1", "0", '"1e400"'),
):
    _row(
        f"exp {_exp[:20]}",
        lambda f, exp=_exp: f.with_claim(f'"exp": {exp}'),
        by_joserfc=_exp in ("1e300", "1" + "0" * 400),
    )
for _name in ("nbf", "iat"):
    for _time in ('"1"', "1e400", "[]", "true", "1" + "0" * 400):
        _row(
            f"{_name} {_time[:9]}",
            lambda f, name=_name, time=_time: f.with_claim(f'"{name}": {time}'),
        )

# For whom, from whom

_ELSEWHERE = {"says": "for another API"}
_row("another audience", lambda f: f.token(aud="api://another"), **_ELSEWHERE)
_row("our id in an audience", lambda f: f.token(aud=f"{f.entra.client_id}/x"), **_ELSEWHERE)
_row("our id in capitals", lambda f: f.token(aud=f.entra.client_id.upper() + "X"), **_ELSEWHERE)
_row("several other audiences", lambda f: f.token(aud=["a", "b"]), **_ELSEWHERE)
_row("no audience", lambda f: f.token(aud=None), says="lacks")
for _aud in ("[]", "{}", "7", "true", '""', "[7]", '[["a"]]', '{"a": "b"}'):
    _row(f"aud {_aud}", lambda f, aud=_aud: f.with_claim(f'"aud": {aud}'))
_row(
    "our id as a member of an audience",
    lambda f: f.with_claim(f'"aud": {{"{f.entra.client_id}": 1}}'),
)
_row(
    "our id beside what is no audience",
    lambda f: f.token(aud=[f.entra.client_id, 7]),
)
_row("for Microsoft Graph", lambda f: f.token(aud=GRAPH), says="Microsoft Graph")
_row(
    "for Microsoft Graph, as it is really signed",
    lambda f: f.as_graph_signs(),
    says="Microsoft Graph",
)
_WRONG = {"says": "another authority, tenant or user flow"}
_row(
    "another tenant's, by the same keys",
    lambda f: f.token(iss=f"{f.entra.url}/{OTHER_TENANT}/v2.0", tid=OTHER_TENANT),
    **_WRONG,
)
_row("another tenant's id", lambda f: f.token(tid=OTHER_TENANT), by_joserfc=True, **_WRONG)
_row(
    "another tenant's of version 1.0",
    lambda f: f.token(iss=f"{f.entra.url}/{OTHER_TENANT}/", tid=OTHER_TENANT, ver="1.0"),
    **_WRONG,
)
_row("no tenant", lambda f: f.token(tid=None), by_joserfc=True, **_WRONG)
_row("another issuer", lambda f: f.token(iss="https://evil.example/v2.0"), **_WRONG)
_row("a placeholder for an issuer", lambda f: f.token(iss=f"{f.entra.url}/{{tenantid}}/v2.0"))
_row("a placeholder for a tenant", lambda f: f.token(tid="{tenantid}"), by_joserfc=True, **_WRONG)
_row("no issuer", lambda f: f.token(iss=None), says="lacks")
for _iss in ("[]", "7", "null", '["https://evil.example"]', '{"a": 1}'):
    _row(f"iss {_iss}", lambda f, iss=_iss: f.with_claim(f'"iss": {iss}'))
_row(
    "an ID token",
    lambda f: f.entra.id_token(ANN),
    by_joserfc=True,
    says="an ID token",
)
_row(
    "an ID token with roles",
    lambda f: f.token(scp=None, azp=None, roles=["Admin"], nonce="n"),
    by_joserfc=True,
    says="an ID token",
)
_row(
    "a user's without scopes",
    lambda f: f.token(scp=None),
    by_joserfc=True,
    says="an ID token",
)
for _claim in ('"sub": {"a": 1}', '"sub": 7', '"jti": 7'):
    _row(f"a claim {_claim}", lambda f, claim=_claim: f.with_claim(claim))
for _claim in ('"tid": ["a"]', '"tid": 7', '"oid": []', '"idtyp": ["app"]', '"ver": 2'):
    _row(f"a claim {_claim}", lambda f, claim=_claim: f.with_claim(claim), by_joserfc=True)
for _claim in ('"scp": {"a": 1}', '"scp": 7', '"roles": 7', '"roles": [7]', '"azp": 7'):
    _row(f"a claim {_claim}", lambda f, claim=_claim: f.with_claim(claim), by_joserfc=True)
_row(
    "bound to a key",
    lambda f: f.token(cnf={"kid": "a key's name"}),
    by_joserfc=True,
    says="bound to a key",
)
_row(
    "deep claims",
    lambda f: f.with_claim('"a": ' + "[" * 100 + "]" * 100),
    by_joserfc=True,
)
_row(
    "very deep claims",
    lambda f: f.with_claim('"a": ' + "[" * 5000 + "]" * 5000),
    by_joserfc=None,
)
_row(
    "a claim that is there twice",
    lambda f: f.with_payload(f'{{"aud": "another", {json.dumps(f.claims())[1:]}'),
    by_joserfc=True,
)
_row(
    "a claim that is there twice, inside",
    lambda f: f.with_claim('"act": {"sub": "a", "sub": "b"}'),
    by_joserfc=True,
)
_row(
    "a number with many digits",
    lambda f: f.with_claim(f'"n": {"9" * 9000}'),
    by_joserfc=None,
)
