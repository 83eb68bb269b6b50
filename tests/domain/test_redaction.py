"""Credentials in addresses are recognized, and hidden in text in every form in which they get there."""

import time

import pytest

from llmops_assets.domain.redaction import carries_credentials, redact, secrets_in


@pytest.mark.parametrize(
    "address",
    [
        "https://ada:s3cret@example.com/zoo.git",
        "https://ghp_token@example.com/zoo.git",
        "http://:s3cret@example.com/zoo.git",
        "HTTPS://ada:s3cret@example.com/zoo.git",
        "ssh://git:s3cret@example.com/zoo.git",
        "https://example.com/zoo.git?private_token=s3cret",
        "https://example.com/zoo.git?access_token=s3cret&x=1",
        "oauth2:s3cret@example.com/zoo.git",
        "postgresql://ada:s3cret@example.com/llmops",
        "postgresql://ada:s3/c@ret@example.com/llmops",
        "postgresql://ada:s3[cret@example.com/llmops",
        "postgresql+psycopg2://ada@example.com/llmops?password=s3cret",
        "mysql://ada:%40s3cret@example.com/llmops",
    ],
)
def test_an_address_with_a_password_or_token_is_recognized(address: str) -> None:
    assert carries_credentials(address)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/zoo.git",
        "https://example.com:8443/team@2/zoo.git",
        "git@example.com:team/zoo.git",
        "ssh://git@example.com:2222/team/zoo.git",
        "file:///srv/git/zoo@home.git",
        "/srv/git/a:b@c.git",
        "../zoo.git",
        "sqlite:////srv/llmops/ledger.sqlite",
        "postgresql://llmops@example.com:5432/llmops?sslmode=require",
        "postgresql+psycopg2://llmops@/l1?host=/tmp/socket",
        "s3://bucket/prefix",
        "abfs://container@account.dfs.core.windows.net/x",
    ],
)
def test_an_address_without_any_is_left_alone_also_in_text(address: str) -> None:
    assert not carries_credentials(address)
    assert redact(f"cannot reach {address}: timeout") == f"cannot reach {address}: timeout"


@pytest.mark.parametrize(
    "text",
    [
        "fatal: unable to access 'https://ada:s3cret-value@example.com/zoo.git/': 403",
        "API request to https://s3cret-value@example.com/api failed",
        "postgresql://ada:x/s3cret-value@y@example.com/db",
        "GET https://example.com/x?job=1&private_token=s3cret-value HTTP/1.1",
        "callback=https%3A%2F%2Fada%3As3cret-value%40example.com",
        "connection to host=example.com password=s3cret-value dbname=x failed",
        'password="s3cret-value"',
        "aws_secret_access_key=s3cret-value",
        "Authorization: Basic s3cret-value",
        "'Authorization': 'Bearer s3cret-value'",
        "sent Bearer s3cret-value-of-some-length",
        "PRIVATE-TOKEN: s3cret-value",
        "pushed with ghp_s3cretvalues3cretvalues3cretvalue",
    ],
)
def test_credentials_are_hidden_by_their_form(text: str) -> None:
    hidden = redact(text)
    assert "s3cret" not in hidden and "***" in hidden
    assert redact(hidden) == hidden, "hiding twice changes nothing"


@pytest.mark.parametrize("text", ["max_tokens=64, tokens=3", "12 tokens/s", "error_rate 0.1, limit 0.01", "key: val"])
def test_ordinary_text_is_not_changed(text: str) -> None:
    assert redact(text) == text


ENVIRONMENT = {
    "LEDGER": "postgresql://ada:p%40ss%2Fw0rd!@example.com/llmops",
    "REPOSITORY": "https://t0ken-of-the-robot@example.com/zoo.git",
    "AWS_SECRET_ACCESS_KEY": "wJalr/XUtnFEMI+K7MDENG",
    "HF_TOKEN": 'quo"ted-token',
    "PGPASSWORD": "postgres",
    "TOKENIZERS_PARALLELISM": "false",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
    "SSH_KEY": "/home/ada/.ssh/id",
    "PWD": "somewhere-else",
    "PIN_PASSWORD": "1234",
}


@pytest.mark.parametrize(
    "written",
    [
        "p@ss/w0rd!", "p%40ss%2Fw0rd!", "p%40ss%2fw0rd%21", "p%40ss/w0rd%21", "YWRhOnBAc3MvdzByZCE=",
        "t0ken-of-the-robot", "wJalr/XUtnFEMI+K7MDENG", "wJalr%2FXUtnFEMI%2BK7MDENG",
        'quo"ted-token', 'quo\\"ted-token', "postgres",
    ],
)  # fmt: skip
def test_known_secrets_are_hidden_however_they_are_encoded(written: str) -> None:
    """A password with special characters is URL-encoded in one message and plain in the next."""
    assert redact(f"failed for <{written}> twice", secrets_in(ENVIRONMENT)) == "failed for <***> twice"


def test_names_of_files_and_short_words_are_no_secrets() -> None:
    text = "postgresql is false for /var/run/token in somewhere-else at 1234 with /home/ada/.ssh/id"
    assert redact(text, secrets_in(ENVIRONMENT)) == text


@pytest.mark.parametrize(
    "text", ["a." * 100_000, "http://a:" * 30_000, "a-" * 100_000, "%3A%2F%2F" * 20_000, "?a" * 99_999]
)
def test_hiding_takes_time_in_proportion_to_the_text(text: str) -> None:
    """A message may contain what a project wrote: a pattern that backtracks would hang all sensors."""
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 10
