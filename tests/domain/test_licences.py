"""Licences against a list: expressions as SPDX means them, and nothing that is unclear passes."""

import pytest

from llmops_assets.domain.licences import (
    MOST_NAMED,
    LicenceFloor,
    LicencesFound,
    beyond,
    expression_of,
    is_allowed,
    judge_licences,
    stated_licence,
    stricter_licences,
    why_not,
)

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


def test_a_floor_counts_what_is_stated_and_what_the_settings_say_of_a_package() -> None:
    floor = LicenceFloor(allow=("MIT",), packages={"odd": "MIT"})
    found = LicencesFound(base_model="mit", packages={"odd": "", "good": "MIT", "bad": "GPL-3.0-only"})
    assert judge_licences(found, floor) == (
        "licences: bad: its licence GPL-3.0-only is not in policy.licences.allow of the settings",
    )
    assert judge_licences(found, LicenceFloor(packages={"bad": "MIT"})) == (), "without a list everything is allowed"
    [unknown] = judge_licences(LicencesFound(), floor)
    assert unknown == "licences: the base model: its licence is unknown; state it as model.license"
    not_built = LicencesFound(base_model="MIT", unknown="uv.lock: no environment was built from it")
    assert judge_licences(not_built, floor) == ("licences: uv.lock: no environment was built from it",)
    assert "not recorded" in judge_licences(None, floor)[0]
    many = LicencesFound(base_model="MIT", packages={f"p{n:02}": "ISC" for n in range(MOST_NAMED + 5)})
    assert len(judge_licences(many, floor)) == MOST_NAMED + 1 and "5 more" in judge_licences(many, floor)[-1]


def test_of_two_floors_only_what_both_allow_is_allowed() -> None:
    ours, theirs = LicenceFloor(allow=("MIT", "ISC")), LicenceFloor(allow=("mit", "Apache-2.0"))
    both = stricter_licences(ours, theirs)
    assert both.allow == ("MIT",) and beyond(("MIT", "ISC"), both) == ("ISC",)
    assert stricter_licences(ours, LicenceFloor()).allow == ours.allow == stricter_licences(LicenceFloor(), ours).allow
    nothing = stricter_licences(ours, LicenceFloor(allow=("Apache-2.0",)))
    assert nothing.allow == () and judge_licences(LicencesFound(base_model="MIT"), nothing)
