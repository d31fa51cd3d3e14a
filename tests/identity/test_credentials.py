"""What proves who the app is: where it is read, when, and that it is shown nowhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tokenmgr import (
    AccessTokenManager,
    Authority,
    AuthorityError,
    Certificate,
    ClientAssertion,
    ClientSecret,
    ConfigurationError,
    TokenManagerError,
    TokenRegistry,
    TokenRequestError,
    WorkloadIdentity,
)
from tokenmgr.emulator.certificates import ClientCertificate, client_certificate
from tokenmgr.identity.environment import settings_from
from tokenmgr.identity.proofs import KeyPair, SecretText, SignedAssertion

SECRET = "Abc8Q~the-secret"
PASSWORD = "Pwd8Q~the-password"
JWT = "eyJ" + "0" * 300 + "the-assertion"
GRAPH = "https://graph.microsoft.com/.default"


@pytest.fixture(scope="module")
def locked() -> ClientCertificate:
    return client_certificate(password=PASSWORD)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proof"


# ── Client secret ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [SECRET, f"  {SECRET}\n", f"\t{SECRET}"])
def test_a_secret_s_text_is_read_without_the_white_space_around_it(text) -> None:
    assert ClientSecret(text).read() == SecretText(SECRET)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_secret_is_refused_at_once(text) -> None:
    with pytest.raises(ConfigurationError, match="client secret is empty: give its value"):
        ClientSecret(text)


@pytest.mark.parametrize("given", [5, b"bytes", ["a"], {"secret": SECRET}])
def test_a_secret_that_is_no_text_is_refused_at_once(given) -> None:
    with pytest.raises(ConfigurationError, match="give one"):
        ClientSecret(given)


def test_a_secret_comes_from_one_place(file) -> None:
    with pytest.raises(ConfigurationError, match="a callable or a file: give one"):
        ClientSecret()
    with pytest.raises(ConfigurationError, match="a callable or a file: give one"):
        ClientSecret(SECRET, file=file)
    with pytest.raises(ConfigurationError, match="a callable or a file: give one"):
        ClientSecret(lambda: SECRET, file=file)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_secret_s_file_is_read_anew_each_time(file, kind) -> None:
    credential = ClientSecret(file=kind(file))
    for text in ("first", "second"):
        file.write_text(f"{text}\n")
        assert credential.read() == SecretText(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_secret_s_file_may_begin_with_a_byte_order_mark(file, encoding) -> None:
    file.write_text("sécret", encoding=encoding)
    assert ClientSecret(file=file).read() == SecretText("sécret")


def test_a_secret_s_callable_is_called_anew_each_time_and_not_before() -> None:
    answers = iter(["first", b" second\n", bytearray(b"third")])
    credential = ClientSecret(lambda: next(answers))
    assert [credential.read().text for _ in range(3)] == ["first", "second", "third"]


# ── Assertion ───────────────────────────────────────────────────────────────────────────────


def test_an_assertion_s_callable_is_called_anew_each_time_and_not_before() -> None:
    answers = iter(["first", "second"])
    credential = ClientAssertion(lambda: next(answers))
    assert credential.read() == SignedAssertion("first")
    assert credential.read() == SignedAssertion("second")


def test_a_fixed_assertion_is_refused_as_it_expires() -> None:
    with pytest.raises(ConfigurationError, match="pass a function"):
        ClientAssertion(JWT)


# ── Workload identity ───────────────────────────────────────────────────────────────────────


def test_a_federated_token_s_file_is_read_anew_each_time(file) -> None:
    credential = WorkloadIdentity(file)
    for text in ("first", "second"):
        file.write_text(text + "\n")
        assert credential.read() == SignedAssertion(text)


def test_a_federated_token_s_file_is_the_one_that_the_environment_names(file, monkeypatch) -> None:
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    credential = WorkloadIdentity()
    file.write_text("first")
    assert credential.read() == SignedAssertion("first")
    file.write_text("second")
    assert credential.read() == SignedAssertion("second")


def test_the_file_given_wins_over_the_environment(file, monkeypatch) -> None:
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/nowhere")
    file.write_text("given")
    assert WorkloadIdentity(file).read() == SignedAssertion("given")


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_file_the_error_names_the_variable(value, monkeypatch) -> None:
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE", raising=False)
    if value is not None:
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", value)
    with pytest.raises(ConfigurationError, match="set AZURE_FEDERATED_TOKEN_FILE"):
        WorkloadIdentity()


# ── What all that read a file or a callable share ───────────────────────────────────────────

FROM_FILE = [lambda path: ClientSecret(file=path), WorkloadIdentity, Certificate]
FROM_CALLABLE = [ClientSecret, ClientAssertion]


@pytest.mark.parametrize("make", FROM_FILE)
def test_a_missing_file_is_an_error_at_the_read_and_not_before(make, file) -> None:
    credential = make(file)
    with pytest.raises(ConfigurationError, match="No such file or directory") as raised:
        credential.read()
    assert str(file) in str(raised.value)
    assert "check the path" in str(raised.value)


@pytest.mark.parametrize("make", FROM_FILE)
def test_a_file_that_cannot_be_read_is_a_configuration_error(make, tmp_path) -> None:
    credential = make(tmp_path)
    with pytest.raises(ConfigurationError, match=r"cannot be read .*directory"):
        credential.read()


@pytest.mark.parametrize("make", FROM_FILE)
def test_a_file_that_vanishes_is_an_error_and_its_return_is_noticed(make, file, made) -> None:
    credential = make(file)
    file.write_bytes(made.pem)
    before = credential.read()
    file.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        credential.read()
    file.write_bytes(made.pem)
    assert credential.read() == before


@pytest.mark.parametrize("make", FROM_FILE[:2])
@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_file_is_named(make, content, file) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is empty: give its value") as raised:
        make(file).read()
    assert str(file) in str(raised.value)


@pytest.mark.parametrize("make", FROM_CALLABLE)
@pytest.mark.parametrize("answer", ["", " ", b"", b"\n"])
def test_a_callable_that_gives_nothing_is_a_configuration_error(make, answer) -> None:
    with pytest.raises(ConfigurationError, match="from the callable is empty"):
        make(lambda: answer).read()


@pytest.mark.parametrize("make", FROM_CALLABLE)
@pytest.mark.parametrize(("answer", "kind"), [(None, "NoneType"), (5, "int"), ({}, "dict")])
def test_a_callable_that_gives_no_text_is_told_what_it_gave(make, answer, kind) -> None:
    with pytest.raises(ConfigurationError, match=f"from the callable is a {kind}, not a text"):
        make(lambda: answer).read()


@pytest.mark.parametrize("make", FROM_CALLABLE)
def test_a_callable_that_fails_is_a_retryable_error_with_its_own_chained(make) -> None:
    failure = LookupError("the vault is shut")

    def fail() -> str:
        raise failure

    with pytest.raises(TokenRequestError, match="LookupError") as raised:
        make(fail).read()
    assert raised.value.__cause__ is failure
    assert raised.value.retryable
    assert "the vault is shut" not in str(raised.value), "what others say may be secret"


@pytest.mark.parametrize("make", FROM_CALLABLE)
def test_a_callable_s_error_of_ours_and_an_interrupt_go_through_as_they_are(make) -> None:
    for failure in (AuthorityError("as it is"), KeyboardInterrupt()):

        def fail(failure: BaseException = failure) -> str:
            raise failure

        with pytest.raises(type(failure)) as raised:
            make(fail).read()
        assert raised.value is failure


def test_rereading_gives_nothing_until_there_is_something_new(file) -> None:
    answers = ["old"]
    for credential in (
        ClientSecret(lambda: answers[0]),
        ClientAssertion(lambda: answers[0]),
        ClientSecret(file=file),
        WorkloadIdentity(file),
    ):
        answers[0] = "old"
        file.write_text("old")
        refused = credential.read()
        assert credential.reread(refused) is None
        answers[0] = "new"
        file.write_text("new")
        assert credential.reread(refused) == type(refused)("new")


def test_rereading_a_text_is_in_vain() -> None:
    credential = ClientSecret(SECRET)
    assert credential.reread(credential.read()) is None


# ── Certificate ─────────────────────────────────────────────────────────────────────────────


def replace_in_place(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def replace_by_rename(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


@pytest.mark.parametrize("form", ["pem", "pfx"])
@pytest.mark.parametrize("send_chain", [True, False])
@pytest.mark.parametrize("kind", [str, Path, bytes, bytearray])
def test_a_certificate_is_a_path_or_bytes(form, send_chain, kind, made, file) -> None:
    content = getattr(made, form)
    file.write_bytes(content)
    source = kind(content) if kind in (bytes, bytearray) else kind(file)
    pair = Certificate(source, send_chain=send_chain).read()
    assert isinstance(pair, KeyPair)
    assert pair.thumbprint == made.thumbprint
    assert pair.certificates[0].encode() == made.certificate_pem
    assert len(pair.certificates) == (2 if send_chain else 1)


def test_a_certificate_may_be_the_text_of_a_pem(made) -> None:
    assert Certificate(made.pem.decode()).read() == Certificate(made.pem).read()


@pytest.mark.parametrize("form", ["pem", "pfx"])
@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_password_opens_an_encrypted_certificate(form, kind, locked) -> None:
    pair = Certificate(getattr(locked, form), password=kind(PASSWORD)).read()
    assert pair.thumbprint == locked.thumbprint


@pytest.mark.parametrize("source", ["", b"", None, 5, {"private_key": "…"}])
def test_what_is_no_certificate_s_path_or_content_is_a_configuration_error(source) -> None:
    with pytest.raises(ConfigurationError, match=r"PEM.*PFX"):
        Certificate(source).read()


def test_a_pfx_in_base64_is_not_taken_for_a_path(made) -> None:
    with pytest.raises(ConfigurationError, match="decode base64 first"):
        Certificate(base64.b64encode(made.pfx).decode())


def test_an_error_in_a_certificate_says_where_it_came_from(file) -> None:
    file.write_bytes(b"garbage")
    with pytest.raises(ConfigurationError, match="proof is neither a PEM"):
        Certificate(file).read()
    with pytest.raises(ConfigurationError, match="the bytes given is neither a PEM"):
        Certificate(b"garbage").read()


def test_a_certificate_s_file_is_parsed_once_while_it_stays_as_it_is(made, file) -> None:
    file.write_bytes(made.pem)
    credential = Certificate(file)
    assert credential.read() is credential.read()


@pytest.mark.parametrize("replace", [replace_in_place, replace_by_rename])
def test_a_certificate_s_file_that_is_replaced_is_noticed(replace, made, other, file) -> None:
    file.write_bytes(made.pem)
    credential = Certificate(file)
    assert credential.read().thumbprint == made.thumbprint
    replace(file, other.pem)
    assert credential.read().thumbprint == other.thumbprint


def test_a_file_renamed_over_another_of_its_time_and_size_is_noticed(made, other, file) -> None:
    size = max(len(made.pem), len(other.pem))
    file.write_bytes(made.pem.ljust(size))
    stat = file.stat()
    credential = Certificate(file)
    credential.read()
    replace_by_rename(file, other.pem.ljust(size))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert credential.read().thumbprint == other.thumbprint


@pytest.mark.parametrize(("longer", "later"), [(0, 1), (1, 0)])
def test_a_new_time_or_a_new_size_alone_is_noticed(longer, later, made, other, file) -> None:
    size = max(len(made.pem), len(other.pem))
    file.write_bytes(made.pem.ljust(size))
    stat = file.stat()
    credential = Certificate(file)
    credential.read()
    file.write_bytes(other.pem.ljust(size + longer))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + later))
    assert credential.read().thumbprint == other.thumbprint


def test_rereading_notices_what_the_file_s_stat_does_not_show(made, other, file) -> None:
    size = max(len(made.pem), len(other.pem))
    file.write_bytes(made.pem.ljust(size))
    stat = file.stat()
    credential = Certificate(file)
    refused = credential.read()
    assert credential.reread(refused) is None
    file.write_bytes(other.pem.ljust(size))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert credential.read() is not None
    assert credential.read() == refused, "its stat is the same"
    assert credential.reread(refused).thumbprint == other.thumbprint
    assert credential.read().thumbprint == other.thumbprint


def test_rereading_bytes_is_in_vain(made) -> None:
    credential = Certificate(made.pem)
    assert credential.reread(credential.read()) is None


def test_a_file_that_is_broken_for_a_moment_heals(made, file) -> None:
    file.write_bytes(made.pem[:100])
    credential = Certificate(file)
    with pytest.raises(ConfigurationError):
        credential.read()
    file.write_bytes(made.pem)
    assert credential.read().thumbprint == made.thumbprint


# ── Nothing secret is shown ─────────────────────────────────────────────────────────────────


def test_a_credential_s_repr_says_where_it_reads_and_not_what(made, file) -> None:
    assert repr(ClientSecret(SECRET)) == "<ClientSecret from a text>"
    assert repr(ClientSecret(lambda: SECRET)) == "<ClientSecret from a callable>"
    assert repr(ClientSecret(file=file)) == f"<ClientSecret from {file}>"
    assert repr(ClientAssertion(lambda: JWT)) == "<ClientAssertion from a callable>"
    assert repr(WorkloadIdentity(file)) == f"<WorkloadIdentity from {file}>"
    assert repr(Certificate(file, password=PASSWORD)) == f"<Certificate from {file}>"
    assert repr(Certificate(made.pem)) == "<Certificate from bytes>"
    assert repr(Certificate(made.pem.decode())) == "<Certificate from bytes>"


def test_a_proof_s_repr_does_not_show_it(made) -> None:
    assert repr(SecretText(SECRET)) == "SecretText()"
    assert repr(SignedAssertion(JWT)) == "SignedAssertion()"
    assert repr(Certificate(made.pem).read()).startswith(
        f"KeyPair(thumbprint={made.thumbprint!r}, ends_at=1"
    )


def errors_of(error: BaseException | None, seen: tuple[int, ...] = ()) -> Iterator[BaseException]:
    """The error, and all that it was caused by or raised over, shown or not."""
    if error is not None and id(error) not in seen:
        yield error
        yield from errors_of(error.__cause__, (*seen, id(error)))
        yield from errors_of(error.__context__, (*seen, id(error)))


def shown_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """All that a report of the error could show of tokenmgr: messages, and each frame's locals."""
    for one in errors_of(error):
        yield f"the message of {type(one).__name__}", f"{one} {one!r} {vars(one)}"
        traceback = one.__traceback__
        while traceback is not None:
            frame, traceback = traceback.tb_frame, traceback.tb_next
            if not frame.f_globals.get("__name__", "").startswith("tokenmgr"):
                continue
            yield "a frame", ""
            for name, value in frame.f_locals.items():
                try:
                    text = repr(value)
                except AttributeError:  # an object whose constructor has just failed
                    continue
                yield f"{name} in {frame.f_code.co_name}", text


def assert_not_shown(call: Callable[[], object], *secrets: str) -> None:
    with pytest.raises(TokenManagerError) as raised:
        call()
    shown = list(shown_by(raised.value))
    assert ("a frame", "") in shown, "a frame of tokenmgr was looked into"
    leaks = [where for where, text in shown if any(secret in text for secret in secrets)]
    assert leaks == []


def test_the_look_into_frames_does_find_what_is_there() -> None:
    namespace = {"__name__": "tokenmgr.leaky", "ConfigurationError": ConfigurationError}
    exec("def leak(secret):\n    raise ConfigurationError('look')", namespace)
    with pytest.raises(AssertionError, match="secret in leak"):
        assert_not_shown(lambda: namespace["leak"](SECRET), SECRET)


def returns(answer: object) -> Callable[[], object]:
    return lambda: answer


@pytest.mark.parametrize(
    "call",
    [
        lambda: ClientSecret(SECRET, file="file"),
        lambda: ClientSecret(SECRET.encode()),
        lambda: ClientSecret({"value": SECRET}),
        lambda: ClientSecret(returns({"value": SECRET})).read(),
        lambda: ClientSecret(returns([SECRET])).reread(SecretText(SECRET)),
        lambda: ClientAssertion(SECRET),
        lambda: ClientAssertion(returns({"assertion": SECRET})).read(),
        lambda: WorkloadIdentity(JWT),
        lambda: Certificate("", password=SECRET),
        lambda: Certificate({"private_key": SECRET}),
        lambda: Certificate("/nowhere/app.pem", password=SECRET).read(),
        lambda: Certificate(b"garbage", password=SECRET).read(),
        lambda: Certificate(SECRET.encode()).read(),
        lambda: Certificate(f"-----BEGIN {SECRET}").read(),
    ],
)
def test_no_error_of_a_credential_shows_a_secret(call) -> None:
    assert_not_shown(call, SECRET, JWT)


@pytest.mark.parametrize("form", ["pem", "pfx"])
@pytest.mark.parametrize("password", [None, SECRET])
@pytest.mark.parametrize("whole", [True, False])
def test_no_error_of_a_certificate_shows_its_content(form, password, whole, locked) -> None:
    content = getattr(locked, form)[: None if whole else 600]
    assert_not_shown(
        lambda: Certificate(content, password=password).read(),
        SECRET,
        repr(content)[20:60],
        repr(content)[-60:-20],
    )


def test_no_error_of_a_file_shows_its_key(made, other, file) -> None:
    file.write_bytes(made.private_key_pem + other.certificate_pem)
    key = made.private_key_pem.decode().splitlines()[1]
    assert_not_shown(Certificate(file).read, key)
    assert_not_shown(Certificate(file, password=PASSWORD).read, key, PASSWORD)
    assert_not_shown(lambda: Certificate(file).reread(SecretText(SECRET)), key, SECRET)


def test_a_pfx_in_base64_is_not_shown(made) -> None:
    text = base64.b64encode(made.pfx).decode()
    assert_not_shown(lambda: Certificate(text), text[20:60])
    assert_not_shown(
        lambda: settings_from({"AZURE_CLIENT_ID": "id", "AZURE_CLIENT_CERTIFICATE_PATH": text}),
        text[20:60],
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": ""},
        {"client_id": None},
        {"authority": "contoso.com"},
        {"authority": None},
        {"timeout": 0},
        {"verify": "/nowhere"},
        {"credential": SECRET.encode()},
        {"credential": {"client_secret": SECRET}},
    ],
)
def test_no_error_of_a_registry_shows_its_secret(wrong) -> None:
    right = {
        "client_id": "id",
        "credential": SECRET,
        "authority": Authority.entra("contoso.com"),
    }
    assert_not_shown(lambda: TokenRegistry(**{**right, **wrong}), SECRET)


@pytest.mark.parametrize(
    ("tenant", "scope"),
    [
        ("not a tenant", GRAPH),
        ("common", GRAPH),
        ("contoso.com", "no-scope"),
        ("contoso.com", ""),
        ("contoso.com", None),
    ],
)
def test_no_error_of_a_manager_from_a_secret_shows_it(tenant, scope) -> None:
    assert_not_shown(lambda: AccessTokenManager.from_secret(tenant, "id", SECRET, scope), SECRET)


@pytest.mark.parametrize(
    "wrong",
    [
        {"AZURE_CLIENT_ID": ""},
        {"AZURE_TENANT_ID": ""},
        {"AZURE_TENANT_ID": "not a tenant"},
        {"AZURE_AUTHORITY_HOST": "http://login.microsoftonline.com"},
        {"TOKENMGR_AUTHORITY": "contoso.com"},
        {"TOKENMGR_AUTHORITY": "https://login.microsoftonline.com/fabrikam.com"},
        {
            "AZURE_CLIENT_SECRET": "",
            "AZURE_CLIENT_CERTIFICATE_PATH": "",
            "TOKENMGR_AUTHORITY": "https://login.microsoftonline.com/contoso.com",
        },
    ],
)
@pytest.mark.parametrize("proof", ["AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD"])
def test_no_error_of_the_environment_shows_a_secret(wrong, proof, monkeypatch) -> None:
    right = {
        "AZURE_CLIENT_ID": "id",
        "AZURE_TENANT_ID": "contoso.com",
        "AZURE_CLIENT_CERTIFICATE_PATH": "/nowhere",
        "AZURE_FEDERATED_TOKEN_FILE": "",
        "TOKENMGR_STORE": f"redis://:{PASSWORD}@localhost",
        proof: SECRET,
    }
    environ = {**right, **wrong}
    assert_not_shown(lambda: settings_from(environ), SECRET, PASSWORD)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert_not_shown(TokenRegistry.from_env, SECRET, PASSWORD)
    assert_not_shown(lambda: TokenRegistry.from_env(timeout=0), SECRET, PASSWORD)
