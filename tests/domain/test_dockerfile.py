"""What a Dockerfile would fetch is found however it is written, and a step of the builder's log has a line."""

import pytest

from llmops_assets.domain.dockerfile import bases, from_line, line_of, refused


def lines(text: str, network: bool = False, allowed: tuple[str, ...] = (), **args: str) -> list[int]:
    return [problem.line for problem in refused(text, args, network, allowed)]


@pytest.mark.parametrize(
    "add",
    [
        "ADD http://example.com/x /x",
        "add https://example.com/x /x",
        "ADD --chown=1:1 --checksum=sha256:0 https://example.com/x /x",
        'ADD ["https://example.com/x", "/x"]',
        "ADD ftp://example.com/x /x",
        "ADD git@example.com:team/x.git /x",
        "ADD https://example.com/x.git#main /x",
        "ADD local.txt http://example.com/x /x",
        "ADD $WHERE /x",
        "ADD ${WHERE:-http://example.com/x} /x",
        "ONBUILD ADD http://example.com/x /x",
        "ADD \\\n  # a note\n\n  http://example.com/x /x",
        "AD\\\nD http://example.com/x /x",
        "RUN <<EOF\nADD http://example.com/x /x\nEOF",
        "\tADD\thttp://example.com/x\t/x",
    ],
)
def test_whatever_add_would_fetch_is_refused_unless_there_is_a_network(add: str) -> None:
    text = f"FROM base@sha256:0\n{add}\n"
    found = lines(text)
    assert len(found) == 1 and found[0] in (2, 3)
    assert lines(text, network=True) == []


def test_local_files_and_words_that_only_look_like_it_are_not_refused() -> None:
    text = (
        "FROM base\nADD app.tar.gz /app/\nCOPY add /x\nRUN echo ADD http://example.com\n# ADD http://example.com/x /x\n"
    )
    assert lines(text) == []


def test_another_escape_character_is_the_files_own() -> None:
    text = "# escape=`\nFROM base\nADD `\n  http://example.com/x c:\\\\x\n"
    assert lines(text) == [3]


@pytest.mark.parametrize("line", ["# syntax=docker/dockerfile:1", "#syntax = evil/frontend", "// syntax=evil/frontend"])
def test_a_frontend_of_a_registry_is_refused_with_and_without_a_network(line: str) -> None:
    assert lines(f"{line}\nFROM base\n") == lines(f"{line}\nFROM base\n", network=True) == [1]
    assert lines(f"FROM base\n{line}\n") == [], "after the first instruction it is a comment"


def test_every_image_that_a_build_takes_from_a_registry_is_found() -> None:
    text = """\
ARG VERSION=3.11
ARG BASE=python:${VERSION}
FROM --platform=linux/amd64 python:${VERSION} AS build
FROM scratch AS empty
FROM build
COPY --from=build /x /x
COPY --from=0 /x /x
COPY --from=other/image:1 /x /x
RUN --mount=type=bind,from=third/image,target=/m ls /m
"""
    assert [name for _, name in bases(text, {})] == ["python:3.11", "other/image:1", "third/image"]
    assert bases(text, {"VERSION": "3.12"})[0] == (3, "python:3.12")
    allowed = ("python:*",)
    assert lines(text, allowed=allowed) == [8, 9]
    assert lines("FROM python:3\n", allowed=("registry.example.com/base/*",)) == [1]


def test_a_step_of_the_log_is_found_at_its_line() -> None:
    text = "FROM base\n\nRUN apt-get update \\\n && apt-get install x\nCOPY a /x/$V\nRUN true\n"
    assert line_of(text, "RUN apt-get update  && apt-get install x") == 3
    assert line_of(text, "COPY a /x/value") == 5
    assert line_of(text, "RUN true") == 6
    assert line_of(text, "WORKDIR /nowhere") is None


def test_the_image_is_built_from_the_last_from() -> None:
    text = "# syntax of ours\nFROM a AS build\nRUN x \\\n  y\nFROM b\nCOPY --from=build /x /x\n"
    assert from_line(text) == 5 and from_line("# nothing\n") is None
