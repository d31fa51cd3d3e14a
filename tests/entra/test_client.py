"""Apps that ask for tokens: their authorities, their credentials, and what they are refused."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from contextlib import contextmanager
from types import SimpleNamespace

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from entra_calls import VAULT, failure, fetch
from reporting import PACKAGE
from support import EXACT, SCOPE

from tokenmgr import (
    Authority,
    AuthorityError,
    Certificate,
    ClientAssertion,
    ClientSecret,
    ConfigurationError,
    InvalidCredentialError,
    InvalidScopeError,
    ServiceUnavailableError,
    TokenManagerError,
    WorkloadIdentity,
)
from tokenmgr.emulator import client_certificate

API = "https://contoso.onmicrosoft.com/api/.default"


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def discoveries(entra):
    return [request.path for request in entra.requests if request.kind == "discovery"]


def last_assertion(entra):
    return entra.requests[-1].form["client_assertion"]


@contextmanager
def while_asking(entra, tokens):
    """Runs the block while the app's token request waits for its answer, which is then yours."""
    taken = []
    before = entra.count()
    entra.pause()
    thread = threading.Thread(target=lambda: taken.append(fetch(tokens)), daemon=True)
    thread.start()
    entra.wait_for_requests(before + 1)
    try:
        yield taken
    finally:
        entra.resume()
        thread.join(30)


# Authorities


def test_the_metadata_of_an_authority_is_asked_for_once(entra):
    with entra.registry(policy=EXACT) as tokens:
        for scope in (SCOPE, VAULT, API, SCOPE, VAULT):
            fetch(tokens, scope)

    assert len(discoveries(entra)) == 1
    assert entra.count() == 5


def test_every_fetch_asks_the_service_and_no_cache(entra):
    with entra.registry(policy=EXACT) as tokens:
        assert fetch(tokens) != fetch(tokens)

    assert entra.count() == 2


def test_the_policies_of_a_b2c_tenant_get_tokens_of_their_own(entra):
    def token_of(policy):
        authority = entra.b2c_authority(policy=policy)
        with entra.registry(policy=EXACT, authority=authority) as tokens:
            return fetch(tokens, API), tokens.manager(API).key

    (one, key_of_one), (other, key_of_other) = token_of("B2C_1_one"), token_of("B2C_1_other")

    assert claims_of(one)["tfp"] == "b2c_1_one"
    assert claims_of(other)["tfp"] == "b2c_1_other"
    assert key_of_one != key_of_other


@pytest.mark.parametrize("kind", ["entra", "tenant id", "b2c", "adfs", "oidc"])
def test_every_kind_of_authority_gives_tokens(entra, kind):
    authority = {
        "entra": entra.authority(),
        "tenant id": entra.authority("11111111-2222-3333-4444-555555555555"),
        "b2c": entra.b2c_authority(),
        "adfs": entra.adfs_authority(),
        "oidc": Authority.oidc(entra.oidc_authority("main")),
    }[kind]
    with entra.registry(policy=EXACT, authority=authority) as tokens:
        token = fetch(tokens)

    assert claims_of(token)["aud"] == "https://graph.microsoft.com"
    assert claims_of(token)["iss"].startswith(entra.url)
    assert len(entra.requests) == 2


def test_an_issuer_that_is_not_the_providers_own_is_refused(rough, registry):
    rough.metadata["issuer"] = "https://evil.example.com/main"
    tokens = registry(authority=Authority.oidc(f"{rough.url}/main"))

    raised = failure(tokens, AuthorityError)

    assert not raised.retryable
    assert rough.posts == 0


def test_a_token_endpoint_that_is_no_address_is_refused(rough, registry):
    rough.metadata["token_endpoint"] = "https://"

    assert not failure(registry(), AuthorityError).retryable


def test_a_tenant_that_is_not_there_is_a_setting_to_check(entra):
    authority = entra.authority("nonexistent.onmicrosoft.com")
    with entra.registry(policy=EXACT, authority=authority) as tokens:
        raised = failure(tokens, ConfigurationError)

    assert raised.error_codes == (90002,)
    assert "check the tenant" in str(raised)
    assert entra.count() == 0


# Refusals


def test_a_wrong_secret_is_refused_with_7000215(entra):
    with entra.registry(policy=EXACT, credential="wr0ng-Secret~") as tokens:
        raised = failure(tokens, InvalidCredentialError)

    assert raised.error_codes == (7000215,)
    assert raised.error == "invalid_client"
    assert raised.correlation_id == entra.requests[-1].headers["client-request-id"]
    assert raised.trace_id
    assert "secret's value, not its id" in str(raised)
    assert "Trace ID" not in str(raised)
    assert "wr0ng" not in str(raised)
    assert entra.count() == 1, "a secret that cannot have changed is not tried again"


def test_an_expired_secret_is_refused_with_7000222(entra):
    entra.expire_secret()
    with entra.registry(policy=EXACT) as tokens:
        raised = failure(tokens, InvalidCredentialError)

    assert raised.error_codes == (7000222,)
    assert "has expired" in str(raised)


def test_an_app_that_is_not_there_is_a_setting_to_check(entra):
    client_id = str(uuid.uuid4())
    with entra.registry(policy=EXACT, client_id=client_id) as tokens:
        raised = failure(tokens, ConfigurationError)

    assert raised.error_codes == (700016,)
    assert client_id in str(raised)


def test_a_resource_that_is_not_there_is_a_wrong_scope(entra):
    entra.unknown_resources = {"https://nowhere.example.com"}
    with entra.registry(policy=EXACT) as tokens:
        raised = failure(tokens, InvalidScopeError, "https://nowhere.example.com/.default")

    assert raised.error_codes == (500011,)
    assert "https://nowhere.example.com" in str(raised)


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "a\r\nX-Admin: true"},
        {"expires_in": -1},
        {"expires_in": "soon"},
        {"expires_in": [1]},
        {"token_type": "Bearer\n"},
    ],
    ids=str,
)
def test_an_answer_that_is_not_whole_gives_no_token(rough, registry, changes):
    rough.on_post = lambda handler: handler.token(**changes)
    tokens = registry()

    with pytest.raises(TokenManagerError) as caught:
        fetch(tokens)

    assert "X-Admin" not in str(caught.value)
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(("expires_in", "seconds"), [(600, 600), ("600", 600), (None, 3599)])
def test_the_life_of_a_token_may_be_a_number_or_its_text(rough, registry, expires_in, seconds):
    rough.on_post = lambda handler: handler.token(expires_in=expires_in)
    before = time.time()

    token = registry().manager(SCOPE).get_token()

    assert token.expires_at == pytest.approx(before + seconds, abs=30)
    assert token.expires_at <= time.time() + seconds


# Credentials that are renewed under a running program


def test_a_secret_that_was_rotated_is_read_again(entra):
    old = entra.client_secret
    new = entra.rotate_secret()
    reads = iter([old, new])
    with entra.registry(policy=EXACT, credential=ClientSecret(lambda: next(reads))) as tokens:
        assert fetch(tokens)

    sent = [r.form["client_secret"] for r in entra.requests if r.kind == "token"]
    assert sent == [old, new]


def test_the_number_alone_is_reason_enough_to_read_a_secret_again(rough, registry):
    # B2C sends no error_codes.
    def refuse_once(handler):
        if rough.posts == 1:
            answer = {"error": "invalid_client", "error_description": "AADSTS7000222: Expired."}
            handler.answer(401, json.dumps(answer))
        else:
            handler.token()

    rough.on_post = refuse_once
    reads = iter(["old", "new"])

    assert fetch(registry(credential=ClientSecret(lambda: next(reads)))) == "a-token"


@pytest.mark.parametrize("codes", [7000215, {"a": 1}, [[7000215]], "7000215", None])
def test_odd_error_codes_break_nothing(rough, registry, codes):
    answer = {"error": "invalid_client", "error_description": "No.", "error_codes": codes}
    rough.on_post = lambda handler: handler.answer(401, json.dumps(answer))

    failure(registry(), InvalidCredentialError)
    assert rough.posts == 1


def test_a_secret_that_is_wrong_again_is_refused_for_good(entra):
    reads = iter(["wrong", "wrong too", "never read"])
    with entra.registry(policy=EXACT, credential=ClientSecret(lambda: next(reads))) as tokens:
        failure(tokens, InvalidCredentialError)

    assert entra.count() == 2
    assert next(reads) == "never read"


def test_a_secrets_file_that_changes_meanwhile_is_read_again(entra, tmp_path):
    file = tmp_path / "secret"
    file.write_text(entra.client_secret + "\n")
    with entra.registry(policy=EXACT, credential=ClientSecret(file=file)) as tokens:
        with while_asking(entra, tokens) as taken:
            file.write_text(entra.rotate_secret())

        assert taken
    assert entra.count() == 2


def test_a_refusal_that_is_not_about_the_secret_reads_it_once(entra):
    reads = []
    credential = ClientSecret(lambda: reads.append(1) or entra.client_secret)
    entra.unknown_resources = {"https://graph.microsoft.com"}
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        failure(tokens, InvalidScopeError)

    assert len(reads) == 1
    assert entra.count() == 1


@pytest.fixture(scope="module")
def certificates():
    return client_certificate("first"), client_certificate("second")


@pytest.fixture
def certificate_file(entra, certificates, tmp_path):
    """The file of a certificate that is registered."""
    file = tmp_path / "app.pem"
    file.write_bytes(certificates[0].pem)
    entra.add_certificate(certificates[0].certificate_pem)
    return file


def replace(entra, file, certificate):
    file.write_bytes(certificate.pem)
    entra.remove_certificates()
    entra.add_certificate(certificate.certificate_pem)


def test_a_certificate_that_is_replaced_is_taken_from_its_file(
    entra, certificates, certificate_file
):
    with entra.registry(policy=EXACT, credential=Certificate(certificate_file)) as tokens:
        fetch(tokens)
        replace(entra, certificate_file, certificates[1])

        assert fetch(tokens)
    assert all("client_secret" not in request.form for request in entra.requests)


def test_a_certificate_that_is_replaced_meanwhile_is_read_again(
    entra, certificates, certificate_file
):
    with entra.registry(policy=EXACT, credential=Certificate(certificate_file)) as tokens:
        with while_asking(entra, tokens) as taken:
            replace(entra, certificate_file, certificates[1])

        assert taken
    assert entra.count() == 2


def test_a_certificate_that_is_not_registered_is_refused_with_700027(entra, certificates):
    with entra.registry(policy=EXACT, credential=Certificate(certificates[0].pem)) as tokens:
        raised = failure(tokens, InvalidCredentialError)

    assert raised.error_codes == (700027,)
    assert "upload the certificate" in str(raised)
    assert entra.count() == 1


@pytest.mark.parametrize("form", ["pem", "pfx"])
def test_a_certificate_behind_a_password_is_opened(entra, form):
    certificate = entra.make_certificate(password="p4ss")
    entra.add_certificate(certificate.certificate_pem)
    credential = Certificate(getattr(certificate, form), password="p4ss")
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        assert fetch(tokens)


@pytest.mark.parametrize("authority", ["authority", "adfs_authority", "b2c_authority"])
def test_a_certificate_is_taken_at_each_kind_of_authority(entra, certificates, authority):
    entra.add_certificate(certificates[0].certificate_pem)
    url = getattr(entra, authority)()
    with entra.registry(
        policy=EXACT, authority=url, credential=Certificate(certificates[0].pfx)
    ) as tokens:
        assert fetch(tokens)


@pytest.mark.parametrize(("send_chain", "sent"), [(True, 2), (False, 1)])
def test_the_chain_is_sent_where_it_is_asked_for(entra, send_chain, sent):
    certificate = entra.make_certificate(chain=True)
    entra.add_certificate(certificate.certificate_pem)
    credential = Certificate(certificate.pem, send_chain=send_chain)
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        fetch(tokens)

    chain = jwt.get_unverified_header(last_assertion(entra))["x5c"]
    certificates = [x509.load_der_x509_certificate(base64.b64decode(each)) for each in chain]
    assert len(certificates) == sent
    assert certificates[0].public_bytes(Encoding.PEM) == certificate.certificate_pem


def test_an_assertion_is_signed_anew_for_each_fetch(entra, issue):
    signed = []
    credential = ClientAssertion(lambda: signed.append(issue()) or signed[-1])
    with entra.registry(policy=EXACT, credential=credential) as tokens:
        fetch(tokens)
        fetch(tokens)

    sent = [r.form["client_assertion"] for r in entra.requests if r.kind == "token"]
    assert sent == signed
    assert len(set(sent)) == 2


def test_an_assertion_that_has_expired_is_signed_again_once(entra, issue):
    made = iter([issue(exp=int(time.time()) - 600), issue()])
    with entra.registry(policy=EXACT, credential=ClientAssertion(lambda: next(made))) as tokens:
        assert fetch(tokens)

    assert entra.count() == 2


def test_a_federated_token_that_has_expired_is_refused_with_700024(entra, issue, tmp_path):
    file = tmp_path / "token"
    file.write_text(issue(exp=int(time.time()) - 600))
    with entra.registry(policy=EXACT, credential=WorkloadIdentity(file)) as tokens:
        raised = failure(tokens, InvalidCredentialError)

    assert raised.error_codes == (700024,)
    assert "federated token file is being renewed" in str(raised)
    assert "eyJ" not in str(raised)
    assert entra.count() == 1


def test_a_federated_token_file_is_read_at_each_fetch(entra, issue, tmp_path, monkeypatch):
    file = tmp_path / "token"
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    written = [issue(), issue()]
    with entra.registry(policy=EXACT, credential=WorkloadIdentity()) as tokens:
        for each in written:
            file.write_text(each + "\n")
            fetch(tokens)

    assert [r.form["client_assertion"] for r in entra.requests if r.kind == "token"] == written


def test_a_federated_token_file_that_changes_meanwhile_is_read_again(entra, issue, tmp_path):
    file = tmp_path / "token"
    file.write_text(issue(exp=int(time.time()) - 600))
    with entra.registry(policy=EXACT, credential=WorkloadIdentity(file)) as tokens:
        with while_asking(entra, tokens) as taken:
            file.write_text(issue())

        assert taken
    assert entra.count() == 2


# What an error carries


def frames_and_errors(error):
    """Every error that an error leads to, and every frame below the test's own."""
    errors, frames, todo = [], [], [error]
    while todo:
        each = todo.pop()
        if each is None or each in errors:
            continue
        errors.append(each)
        todo += [each.__cause__, each.__context__]
        traceback = each.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename != __file__:
                frames.append(traceback.tb_frame)
            traceback = traceback.tb_next
    return frames, errors


def misbehave(rough, how):
    secret = rough.secret
    says = json.dumps({"error": "invalid_client", "error_description": f"AADSTS7000215: {secret}?"})
    rough.on_post = {
        "wrong secret": lambda handler: handler.answer(401, says),
        "failing": lambda handler: handler.answer(500, says),
        "throttling": lambda handler: handler.answer(429, says),
        "disconnect": lambda handler: handler.connection.close(),
        "broken JSON": lambda handler: handler.answer(200, says[:-3]),
        "HTML": lambda handler: handler.answer(403, f"<html>{secret}</html>"),
        "redirect": lambda handler: handler.answer(307, "", location=f"/{secret}"),
        "odd": lambda handler: handler.answer(200, json.dumps({"access_token": [secret]})),
    }[how]


TROUBLES = (
    "wrong secret",
    "failing",
    "throttling",
    "disconnect",
    "broken JSON",
    "HTML",
    "redirect",
    "odd",
)


@pytest.mark.parametrize("how", TROUBLES)
def test_an_error_leads_to_nothing_that_holds_the_secret(rough, rough_source, how):
    misbehave(rough, how)
    # The bare source: a manager would drop the frames that are looked at here.
    with pytest.raises(TokenManagerError) as caught:
        rough_source.fetch_token()

    frames, errors = frames_and_errors(caught.value)
    assert rough.posts >= 1
    assert frames, "the source's own frames are expected to be there"
    assert errors == [caught.value]
    for frame in frames:
        assert frame.f_code.co_filename.startswith(f"{PACKAGE}/"), "a frame of MSAL's or requests'"
        for name, value in frame.f_locals.items():
            assert rough.secret not in repr(value), f"{name} in {frame.f_code.co_name}"
    for error in errors:
        assert rough.secret not in f"{error!r} {error} {vars(error)!r}"


def test_an_error_of_a_manager_leads_to_nothing_that_holds_the_secret(rough, registry):
    misbehave(rough, "wrong secret")

    raised = failure(registry(), InvalidCredentialError)

    frames, errors = frames_and_errors(raised)
    assert errors == [raised]
    for frame in frames:
        assert rough.secret not in repr(frame.f_locals)


def test_an_answer_with_a_token_shows_it_in_no_traceback(rough, rough_source):
    rough.on_post = lambda handler: handler.token(access_token="the-token-itself", expires_in=-5)

    with pytest.raises(ServiceUnavailableError) as caught:
        rough_source.fetch_token()

    frames, _ = frames_and_errors(caught.value)
    assert any("answer" in frame.f_locals for frame in frames)
    for frame in frames:
        assert "the-token-itself" not in repr(frame.f_locals)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_shows_no_frame_that_holds_the_secret(
    rough_source, rough, monkeypatch, interruption
):
    def interrupt(*_, **__):
        raise interruption

    monkeypatch.setattr("requests.Session.send", interrupt)
    with pytest.raises(interruption) as caught:
        rough_source.fetch_token()

    frames, _ = frames_and_errors(caught.value)
    for frame in frames:
        assert rough.secret not in repr(frame.f_locals)


def test_a_refusal_without_a_number_has_the_credential_read_anew(rough, make_source):
    rough.on_post = lambda handler: handler.answer(401, '{"error": "invalid_client"}')
    secrets = iter(["one", "two"])
    with pytest.raises(InvalidCredentialError):
        make_source(ClientSecret(lambda: next(secrets))).fetch_token()
    assert rough.posts == 2


def test_a_slow_vault_does_not_use_up_the_time_of_the_request(entra, monkeypatch):
    late = SimpleNamespace(by=0.0, monotonic=lambda: time.monotonic() + late.by, time=time.time)
    for module in ("connection", "exchange"):
        monkeypatch.setattr(f"tokenmgr.entra.wire.{module}.time", late)

    def slow():
        late.by += 20.0
        return entra.client_secret

    with entra.registry(credential=ClientSecret(slow), timeout=15.0) as tokens:
        assert tokens.manager(SCOPE).get_access_token()
    assert late.by == 20.0


def test_a_file_without_certificate_authorities_is_named(entra, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    with (
        entra.registry(verify=str(file)) as tokens,
        pytest.raises(ConfigurationError, match="certificate authorities"),
    ):
        tokens.manager(SCOPE).get_access_token()


def test_an_unknown_number_can_be_looked_up(rough, rough_source):
    says = '{"error": "odd", "error_description": "AADSTS900144: no.", "error_codes": [900144]}'
    rough.on_post = lambda handler: handler.answer(400, says)
    with pytest.raises(TokenManagerError, match=r"error\?code=900144"):
        rough_source.fetch_token()


def test_an_external_id_like_authority_gives_tokens(entra):
    with entra.registry(authority=entra.ciam_authority("fabrikam")) as tokens:
        token = tokens.manager(SCOPE).get_access_token()
    assert jwt.decode(token, options={"verify_signature": False})["iss"].startswith(entra.url)
