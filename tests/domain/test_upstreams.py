"""An address that a commit names is used only if the settings allow it, however it is written."""

import pytest

from llmops_assets.domain.upstreams import why_not_allowed

ALLOWED = ("/srv/exports", "https://data.example.com/team", "git@github.com:team/data.git", "s3://bucket/prefix")


@pytest.mark.parametrize(
    "address",
    [
        "/srv/exports/a/b.jsonl", "/srv/exports", "https://data.example.com:443/team/x", "https://DATA.example.com/team/x",
        "ssh://git@github.com/team/data.git", "git@github.com:team/data.git", "s3://bucket/prefix/files",
    ],
)  # fmt: skip
def test_what_lies_within_is_allowed(address: str) -> None:
    assert why_not_allowed(address, ALLOWED, "upstreams") is None


@pytest.mark.parametrize(
    "address",
    [
        "/srv/exports-of-others/x", "/srv", "/etc/passwd", "http://data.example.com/team/x",
        "https://data.example.com:8443/team/x", "https://data.example.com.evil.org/team/x", "https://data.example.com/teams",
        "git@github.com:team/other.git", "s3://bucket-2/prefix", "http://169.254.169.254/latest",
    ],
)  # fmt: skip
def test_what_lies_elsewhere_is_not(address: str) -> None:
    assert "is not allowed by upstreams in the settings" in (why_not_allowed(address, ALLOWED, "upstreams") or "")


@pytest.mark.parametrize(
    "address",
    [
        "/srv/exports/../secret", "https://data.example.com/team/%2e%2e/x", "https://data.example.com/team/a%2f..%2fb",
        "https://data.example.com/team/..", "https://data.example.com/team//x", "ext::sh -c id", "-oProxyCommand=id:x",
        "file:///srv/exports/x", "remote://storage/x", "../x", "~/x", "", "https://data.example.com\\@evil/team",
        "https://data.example.com/team/x#y", "https:///team", "https://u@data.example.com/team", "gopher://h/x",
        "https://data.example.com/team\n/x", "https://[::1/team",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(address: str) -> None:
    assert why_not_allowed(address, (*ALLOWED, "ssh://x"), "upstreams")


def test_a_password_is_never_in_the_message() -> None:
    assert "s3cret" not in (
        why_not_allowed("https://ada:s3cret@data.example.com/team", ALLOWED, "upstreams") or "s3cret"
    )
