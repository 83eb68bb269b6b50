"""Licences against a list: expressions as SPDX means them, and nothing that is unclear passes."""

import pytest

from llmops_assets.domain.licences import expression_of, is_allowed, stated_licence, why_not

ALLOW = ("MIT", "apache-2.0", "BSD-3-Clause", "llama3.1")


@pytest.mark.parametrize(
    ("stated", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("Apache-2.0", True),
        ("llama3.1", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(GPL-3.0-only OR MIT) AND Apache-2.0", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("MIT WITH Some-exception", False),
        ("MIT License", True),
        ("Apache Software License", True),
        ("BSD", False),
        ("MIT-0", False),
        ("MIT OR", False),
        ("see LICENSE file", False),
        ("MIT, for now", False),
        ("", False),
        (None, False),
        ("MIT " * 1000, False),
    ],
)
def test_only_what_is_clearly_allowed_is(stated: str | None, allowed: bool) -> None:
    assert (why_not(stated, ALLOW) is None) is allowed, why_not(stated, ALLOW)


def test_what_is_unknown_is_told_from_what_is_not_allowed() -> None:
    assert why_not(None, ALLOW) == "its licence is unknown"
    assert "unknown ('see LICENSE')" in (why_not("see LICENSE", ALLOW) or "")
    assert why_not("GPL-3.0-only", ALLOW) == "its licence GPL-3.0-only is not in ci.licences.allow"
    assert expression_of("BSD or so it says, roughly") is None and not is_allowed("AND", ALLOW)


@pytest.mark.parametrize(
    ("metadata", "stated"),
    [
        ({"license-expression": ["MIT"], "license": ["GPL"]}, "MIT"),
        ({"license": ["MIT License"]}, "MIT License"),
        ({"license": ["a whole text " * 100], "classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        (
            {"classifier": ["License :: OSI Approved :: MIT License", "License :: OSI Approved :: ISC License (ISCL)"]},
            "ISC AND MIT",
        ),
        ({"classifier": ["License :: OSI Approved :: BSD License"]}, "BSD License"),
        (
            {"classifier": ["License :: OSI Approved :: MIT License", "License :: Other/Proprietary License"]},
            "MIT License AND Other/Proprietary License",
        ),
        ({"classifier": ["License :: OSI Approved"]}, "OSI Approved"),
        ({}, None),
    ],
)
def test_metadata_of_packages(metadata: dict[str, list[str]], stated: str | None) -> None:
    assert stated_licence(metadata) == stated


def test_one_clear_classifier_beside_an_unclear_one_is_not_clear() -> None:
    metadata = {"classifier": ["License :: OSI Approved :: MIT License", "License :: Other/Proprietary License"]}
    assert why_not(stated_licence(metadata), ("MIT",)) is not None
