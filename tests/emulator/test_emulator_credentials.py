"""Secrets, certificates and foreign assertions are verified, and refused with Entra's numbers."""

from __future__ import annotations

import time
import uuid

import jwt
import pytest

from tokenmgr.emulator import FederatedCredential, client_certificate

GRAPH = "https://graph.microsoft.com/.default"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture(scope="module")
def certificate():
    return client_certificate()


@pytest.fixture
def assertion(emulator, certificate):
    """Sign an assertion; what is given changes its claims."""

    def sign(key=certificate.private_key_pem, header=None, **claims):
        now = time.time()
        payload = {
            "aud": f"{emulator.authority()}/oauth2/v2.0/token",
            "iss": emulator.client_id,
            "sub": emulator.client_id,
            "jti": str(uuid.uuid4()),
            "nbf": now,
            "exp": now + 300,
        } | claims
        thumbprint = bytes.fromhex(certificate.thumbprint_sha256)
        x5t = jwt.utils.base64url_encode(thumbprint).decode()
        return jwt.encode(payload, key, "RS256", headers=header or {"x5t#S256": x5t})

    return sign


@pytest.fixture
def show(ask):
    """Ask for a token with an assertion instead of the secret."""

    def post(signed, **fields):
        return ask(
            client_secret=None,
            client_assertion_type=ASSERTION_TYPE,
            client_assertion=signed,
            **fields,
        )

    return post


def refused(answer, code, error="invalid_client"):
    body = answer.json()
    assert body["error_codes"] == [code], body
    assert body["error"] == error
    assert answer.status_code == (401 if error == "invalid_client" else 400)
    return True


def test_the_secret_is_taken_in_the_body(ask):
    answer = ask()

    assert answer.status_code == 200
    assert answer.json()["token_type"] == "Bearer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "refresh_in" not in answer.json()


def test_the_secret_is_taken_by_http_basic(emulator, http):
    def post(secret):
        return http.post(
            f"{emulator.authority()}/oauth2/v2.0/token",
            data={"grant_type": "client_credentials", "scope": GRAPH},
            auth=(emulator.client_id, secret),
        )

    assert post(emulator.client_secret).status_code == 200
    assert refused(post("wrong"), 7000215)


def test_a_wrong_secret_is_refused_with_7000215(ask):
    assert refused(ask(client_secret="wrong"), 7000215)


def test_an_expired_secret_is_refused_with_7000222_until_it_is_rotated(emulator, ask):
    emulator.expire_secret()
    assert refused(ask(), 7000222)

    emulator.rotate_secret()
    assert ask().status_code == 200


def test_a_rotated_secret_stops_working_at_once(emulator, ask):
    old = emulator.client_secret
    new = emulator.rotate_secret("the new one")

    assert refused(ask(client_secret=old), 7000215)
    assert ask(client_secret=new).status_code == 200


def test_an_unknown_client_is_refused_with_700016(ask):
    assert refused(ask(client_id=str(uuid.uuid4())), 700016, "unauthorized_client")


def test_a_client_without_a_credential_is_refused_with_7000216(ask):
    assert refused(ask(client_secret=None), 7000216)


def test_a_client_that_was_added_gets_tokens_with_its_roles(emulator, ask):
    client_id = emulator.add_client(secret="hers", roles=["Orders.Read"])

    answer = ask(client_id=client_id, client_secret="hers")

    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["roles"] == ["Orders.Read"]
    assert claims["appid"] == client_id


def test_msal_proves_itself_with_a_pem_certificate(emulator, msal_app, certificate):
    emulator.add_certificate(certificate.certificate_pem)
    credential = {
        "private_key": certificate.private_key_pem.decode(),
        "public_certificate": certificate.certificate_pem.decode(),
    }

    answer = msal_app(credential=credential).acquire_token_for_client([GRAPH])

    assert "access_token" in answer, answer.get("error_description")


def test_msal_proves_itself_by_a_sha1_thumbprint(emulator, msal_app, certificate):
    emulator.add_certificate(certificate.certificate_pem)
    credential = {
        "private_key": certificate.private_key_pem.decode(),
        "thumbprint": certificate.thumbprint,
    }

    answer = msal_app(credential=credential).acquire_token_for_client([GRAPH])

    assert "access_token" in answer, answer.get("error_description")


def test_msal_proves_itself_with_a_pfx_that_has_a_password_and_a_chain(
    emulator, msal_app, tmp_path
):
    certificate = emulator.make_certificate("payroll", password="open sesame", chain=True)
    emulator.add_certificate(certificate.certificate_pem)
    path = tmp_path / "payroll.pfx"
    path.write_bytes(certificate.pfx)
    credential = {"private_key_pfx_path": str(path), "passphrase": "open sesame"}

    answer = msal_app(credential=credential).acquire_token_for_client([GRAPH])

    assert "access_token" in answer, answer.get("error_description")


def test_msal_proves_itself_with_a_certificate_at_adfs(emulator, msal_app, certificate):
    emulator.add_certificate(certificate.certificate_pem)
    credential = {
        "private_key": certificate.private_key_pem.decode(),
        "public_certificate": certificate.certificate_pem.decode(),
        "thumbprint": certificate.thumbprint,
    }

    app = msal_app(emulator.adfs_authority(), credential)

    assert "access_token" in app.acquire_token_for_client(["api://orders/.default"])


def test_a_certificate_is_found_in_x5c_alone(emulator, assertion, show, certificate):
    emulator.add_certificate(certificate.certificate_pem)
    body = "".join(certificate.certificate_pem.decode().splitlines()[1:-1])

    answer = show(assertion(header={"x5c": [body]}))

    assert answer.status_code == 200, answer.text


def test_a_certificate_that_is_not_registered_is_refused_with_700027(assertion, show):
    assert refused(show(assertion()), 700027)


def test_a_certificate_that_was_removed_is_refused(emulator, assertion, show, certificate):
    emulator.add_certificate(certificate.certificate_pem)
    assert show(assertion()).status_code == 200

    emulator.remove_certificates()
    assert refused(show(assertion()), 700027)


def test_a_signature_of_another_key_is_refused_with_700027(emulator, assertion, show, certificate):
    emulator.add_certificate(certificate.certificate_pem)
    other = client_certificate("mallory")

    assert refused(show(assertion(key=other.private_key_pem)), 700027)


def test_an_unsigned_assertion_is_refused(emulator, assertion, show, certificate):
    emulator.add_certificate(certificate.certificate_pem)
    claims = jwt.decode(assertion(), options={"verify_signature": False})
    header = jwt.get_unverified_header(assertion())
    unsigned = jwt.encode(claims, None, "none", headers={"x5t#S256": header["x5t#S256"]})

    assert show(unsigned).status_code == 401


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1_000_000_000}, 700024),
        ({"nbf": 9_999_999_999, "exp": 9_999_999_999}, 700024),
        ({"exp": None}, 700024),
        ({"aud": "https://login.example/token"}, 700023),
        ({"sub": "somebody else"}, 700021),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(
    emulator, assertion, show, certificate, claims, code
):
    emulator.add_certificate(certificate.certificate_pem)

    assert refused(show(assertion(**claims)), code)


def test_what_is_no_assertion_is_refused_with_50027(show):
    assert refused(show("not.a.jwt"), 50027)


@pytest.fixture
def cluster(emulator, certificate):
    """Register a foreign issuer; the certificate's key is the cluster's."""
    public_key = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).prepare_key(
        certificate.private_key_pem
    )
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(public_key.public_key(), as_dict=True)
    emulator.add_federated_issuer("https://oidc.cluster.example", "system:serviceaccount:a:b", jwk)
    return {
        "iss": "https://oidc.cluster.example",
        "sub": "system:serviceaccount:a:b",
        "aud": "api://AzureADTokenExchange",
    }


def test_the_assertion_of_a_registered_issuer_proves_the_app(cluster, assertion, show):
    assert show(assertion(**cluster)).status_code == 200


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"iss": "https://elsewhere.example"}, 700211),
        ({"sub": "system:serviceaccount:a:c"}, 700213),
        ({"aud": "somebody"}, 700212),
        ({"exp": 1_000_000_000}, 700024),
    ],
)
def test_a_foreign_assertion_that_does_not_match_is_refused(
    cluster, assertion, show, changed, code
):
    assert refused(show(assertion(**(cluster | changed))), code)


def test_a_foreign_assertion_of_another_key_is_refused(cluster, assertion, show):
    mallory = client_certificate("mallory")

    assert refused(show(assertion(key=mallory.private_key_pem, **cluster)), 700027)


def test_a_federated_key_may_be_pem(emulator, assertion, show, certificate):
    key = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).prepare_key(
        certificate.private_key_pem
    )
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    client_id = emulator.add_client(federated=FederatedCredential("https://a.example", "b", pem))
    signed = assertion(iss="https://a.example", sub="b", aud="api://AzureADTokenExchange")

    assert show(signed, client_id=client_id).status_code == 200


@pytest.mark.parametrize(
    ("scope", "code", "error"),
    [
        ("https://graph.microsoft.com/User.Read", 1002012, "invalid_scope"),
        ("https://graph.microsoft.com/.default openid", 70011, "invalid_scope"),
        ("/.default", 70011, "invalid_scope"),
        ('quo"ted', 1002012, "invalid_scope"),
        (None, 900144, "invalid_request"),
    ],
)
def test_a_scope_that_an_app_cannot_have_is_refused(ask, scope, code, error):
    assert refused(ask(scope=scope), code, error)


def test_a_resource_is_unknown_when_the_test_says_so(emulator, ask):
    emulator.unknown_resources.add("https://graph.microsoft.com")

    assert refused(ask(), 500011, "invalid_resource")
    assert ask(scope="api://orders/.default").status_code == 200


@pytest.mark.parametrize(
    ("tenant", "code"), [("common", 9001023), ("consumers", 9001023), ("organizations", 50059)]
)
def test_an_app_signs_in_to_no_tenant_in_particular_in_vain(emulator, ask, tenant, code):
    assert refused(ask(emulator.authority(tenant)), code, "invalid_request")


def test_an_unsupported_grant_is_refused_with_70003(ask):
    assert refused(ask(grant_type="telepathy"), 70003, "unsupported_grant_type")


def test_a_request_without_a_grant_is_refused_with_900144(ask):
    assert refused(ask(grant_type=None), 900144, "invalid_request")


def test_a_refusal_has_entras_shape(emulator, http):
    answer = http.post(
        f"{emulator.authority()}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": emulator.client_id,
            "client_secret": "wrong",
            "scope": GRAPH,
        },
        headers={"client-request-id": "11111111-2222-3333-4444-555555555555"},
    )

    body = answer.json()
    assert body["correlation_id"] == "11111111-2222-3333-4444-555555555555"
    assert body["error_description"].startswith("AADSTS7000215: Invalid client secret provided.")
    assert (
        f"Trace ID: {body['trace_id']} Correlation ID: {body['correlation_id']}"
        in (body["error_description"])
    )
    assert time.strptime(body["timestamp"], "%Y-%m-%d %H:%M:%SZ")
    assert body["error_uri"].endswith("/error?code=7000215")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "wrong" not in answer.text
