"""The verdict on an image follows from its scan, the policy and the day, and no commit weakens it unnoticed."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from llmops_assets.config.image import Image
from llmops_assets.domain.images import (
    NO_DOCKERFILE,
    ImageFloor,
    ImagePolicy,
    ImageScan,
    image_below_floor,
    judge_image,
    loosened_image,
    stricter_image,
    vulnerability_findings,
)
from llmops_assets.domain.policy import loosened
from llmops_assets.domain.records import Check, ContainerImage, Vulnerability
from llmops_assets.domain.resolution import resolve_records
from llmops_assets.domain.verdict import Verdict
from tests.support.records import VALUES, Memory, changed, made_by

TODAY = date(2026, 11, 29)
BUILT = {"files": "f"}


def vulnerability(identity: str, severity: Any, fixed: str = "3.0.2") -> Vulnerability:
    return Vulnerability(id=identity, package="openssl", version="3.0.1", fixed=fixed, severity=severity)


def image(*found: Vulnerability, **change: Any) -> ContainerImage:
    counts: dict[str, int] = {}
    for one in found:
        counts[one.severity] = counts.get(one.severity, 0) + 1
    fields: dict[str, Any] = {
        "key": "k", "made_by": made_by(), "digest": "sha256:d", "reference": "r/zoo@sha256:d", "packages": 9,
        "database": "2026-11-28T06:00:00Z", "vulnerabilities": found, "severities": counts,
        "checks": (Check(name="lint", passed=True, summary="no problems"),),
    }  # fmt: skip
    return ContainerImage(**{**fields, **change})


def judged(record: ContainerImage | None, without: str | None = None, today: date = TODAY, **scan: Any) -> Verdict:
    return judge_image("the image", record, without, ImagePolicy(scan=ImageScan.model_validate(scan)), today)


HIGH, MEDIUM = vulnerability("CVE-2026-1", "high"), vulnerability("CVE-2026-2", "medium")


def test_base_images_are_judged_by_the_patterns_of_today() -> None:
    record = image(bases=("registry.example.com/base/python:3.11", "python:3.11"))
    assert judge_image("the image", record, None, ImagePolicy(), TODAY).passed
    limited = ImagePolicy(bases=("registry.example.com/base/*",))
    assert judge_image("the image", record, None, limited, TODAY).failures == (
        "bases: python:3.11: not allowed by images.bases of the settings (registry.example.com/base/*)",
    )
    assert judge_image("the image", image(bases=record.bases[:1]), None, limited, TODAY).passed


def test_only_vulnerabilities_that_fail_are_findings_and_they_have_a_place() -> None:
    scan = ImageScan.model_validate({"ignore": [{"id": "CVE-2026-3", "reason": "not reachable"}]})
    record = image(HIGH, MEDIUM, vulnerability("CVE-2026-3", "critical"))
    (found,) = vulnerability_findings(record, scan, TODAY, "docker/Dockerfile", 4)
    assert found.text == "docker/Dockerfile:4: CVE-2026-1: CVE-2026-1 (high) in openssl 3.0.1, fixed in 3.0.2"


def test_a_vulnerability_at_the_limit_fails_and_one_below_does_not() -> None:
    failed = judged(image(HIGH, MEDIUM))
    assert failed.failures == (
        "vulnerabilities: 1 of severity high or above: CVE-2026-1 (high) in openssl 3.0.1, fixed in 3.0.2",
    )
    assert judged(image(MEDIUM)).passed and not judged(image(MEDIUM), severity="medium").passed
    assert "none of severity critical or above in 9 packages" in judged(image(HIGH), severity="critical").text


def test_what_could_not_be_scanned_is_never_a_pass_unless_the_settings_accept_it() -> None:
    unseen = image(not_scanned="the database is 40 days old")
    assert judged(unseen).failures == ("vulnerabilities: not scanned: the database is 40 days old",)
    accepted = judge_image("the image", unseen, None, ImagePolicy(must_be_scanned=False), TODAY)
    assert accepted.passed and "not scanned: the database is 40 days old" in accepted.text


def test_an_accepted_vulnerability_is_named_with_its_reason_until_its_last_day() -> None:
    accepted = [{"id": "cve-2026-1", "reason": "the server is not used", "until": "2026-11-29"}]
    assert "CVE-2026-1 in openssl is accepted: the server is not used" in judged(image(HIGH), ignore=accepted).text
    assert judged(image(HIGH), ignore=accepted).passed
    assert not judged(image(HIGH), today=date(2026, 11, 30), ignore=accepted).passed


def test_vulnerabilities_without_a_fix_count_unless_the_project_says_otherwise() -> None:
    unfixed = image(vulnerability("CVE-2026-3", "critical", fixed=""))
    assert "no fix yet" in judged(unfixed).text and not judged(unfixed).passed
    assert judged(unfixed, unfixed=False).passed


def test_vulnerabilities_that_the_record_only_counts_fail_too() -> None:
    more = image(HIGH, severities={"high": 600})
    accepted = [{"id": "CVE-2026-1", "reason": "not used"}]
    assert judged(more, ignore=accepted).failures[0].startswith("vulnerabilities: 599 of severity high or above")


def test_a_failed_lint_fails_and_a_revision_without_image_passes_and_says_why() -> None:
    lint = Check(name="lint", passed=False, summary="Dockerfile:3: DL3000: Use absolute WORKDIR")
    assert judged(image(checks=(lint,))).failures == ("lint: Dockerfile:3: DL3000: Use absolute WORKDIR",)
    assert judged(None, without=NO_DOCKERFILE).reasons == ("no image: no Dockerfile",)
    assert judged(None).failures == ("no report on the image",)


def test_nothing_waits_for_the_record_of_an_image_that_there_is_not() -> None:
    """A revision that was released before there was this stage can still be deployed again."""
    memory = Memory()
    memory.deliver(VALUES)
    memory.records = {key: record for key, record in memory.records.items() if record.stage != "container_image"}
    from llmops_assets.domain.chain import STAGES

    resolved = resolve_records(VALUES, memory.records.get)
    assert resolved.missing_for(STAGES["production_endpoint"]) == []
    built = resolve_records(changed(VALUES, image=BUILT), memory.records.get)
    assert built.missing_for(STAGES["production_endpoint"]) == ["container_image"]


def test_the_dockerfile_changes_the_image_and_nothing_that_does_not_run_in_it() -> None:
    plan = Memory()
    plan.deliver(changed(VALUES, image=BUILT))
    found = plan.plan(changed(VALUES, image={"files": "g"}), changed(VALUES, image=BUILT))
    assert [s.stage for s in found.stages if s.action == "run" and s.stage not in ("staging_endpoint",)][:1] == [
        "container_image"
    ]
    assert found["fine_tuned_checkpoint"].action == "reuse"


def test_another_limit_of_the_scan_is_a_new_verdict_on_the_image_that_there_is() -> None:
    before = changed(VALUES, image=BUILT, image__scan={})
    memory = Memory()
    memory.deliver(before)
    plan = memory.plan({**before, "image.scan": {"severity": "low"}}, before)
    assert plan["container_image"].action == "reuse" and plan["container_image"].judge_again
    assert plan["container_image"].reasons[-1] == "image.scan changed: new verdict on the existing report"
    assert "container_image" in plan.to_materialize and not plan["dataset_version"].judge_again


def test_every_way_to_loosen_the_scan_is_named() -> None:
    strict = ImagePolicy(scan=ImageScan.model_validate({"severity": "medium"}))
    entry = {"id": "CVE-2026-1", "reason": "not used"}

    def after(**scan: Any) -> list[str]:
        new = ImagePolicy(scan=ImageScan.model_validate({"severity": "medium", **scan}))
        return list(loosened_image(strict, new))

    assert after(severity="critical") == ["image.scan.severity medium → critical"]
    assert after(unfixed=False) == ["image.scan.unfixed switched off"]
    assert after(ignore=[entry]) == ["image.scan.ignore: CVE-2026-1 added"]
    assert after(severity="low") == []
    assert list(loosened_image(strict, ImagePolicy(build=False))) == ["image.build switched off"]
    dated = ImagePolicy(scan=ImageScan.model_validate({"ignore": [{**entry, "until": "2026-12-01"}]}))
    longer = ImagePolicy(scan=ImageScan.model_validate({"ignore": [entry]}))
    assert list(loosened_image(dated, longer)) == ["image.scan.ignore: CVE-2026-1 is accepted for longer"]
    assert list(loosened_image(longer, dated)) == []
    from llmops_assets.domain.policy import NO_POLICY

    assert "image.build switched off" in loosened(
        NO_POLICY, NO_POLICY.model_copy(update={"image": ImagePolicy(build=False)})
    )


def test_a_project_tightens_the_floor_and_never_loosens_it() -> None:
    floor = ImageFloor(severity="high", unfixed=True, ignore=False)
    entry = {"id": "CVE-2026-1", "reason": "not used"}
    loose = ImagePolicy(scan=ImageScan.model_validate({"severity": "critical", "unfixed": False, "ignore": [entry]}))
    assert stricter_image(loose, floor).scan == ImageScan(severity="high", unfixed=True, ignore=())
    assert [text.split(" ")[0] for text in image_below_floor(loose, floor)] == [
        "image.scan.severity",
        "image.scan.unfixed",
        "image.scan.ignore",
    ]
    strict = ImagePolicy(scan=ImageScan(severity="low"))
    assert stricter_image(strict, floor).scan.severity == "low" and list(image_below_floor(strict, floor)) == []


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"args": {"BUILDKIT_SYNTAX": "evil/frontend"}}, "is an argument of the builder itself"),
        ({"args": {"a b": "c"}}, "pattern"),
        ({"context": "../elsewhere"}, "must be a path within the project"),
        ({"dockerfile": "/etc/passwd"}, "must be a path within the project"),
        ({"scan": {"severity": "huge"}}, "'low', 'medium', 'high' or 'critical'"),
        ({"scan": {"ignore": [{"id": "CVE-2026-1"}]}}, "reason"),
        ({"scan": {"ignore": [{"id": "rm -rf", "reason": "because"}]}}, "pattern"),
        (
            {"scan": {"ignore": [{"id": "CVE-1-1", "reason": "abc"}, {"id": "cve-1-1", "reason": "abc"}]}},
            "listed twice",
        ),
        ({"taret": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_the_section_is_named(written: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Image.model_validate(written)


def test_a_new_image_evaluates_again_what_runs_in_it_and_trains_nothing() -> None:
    """The image's digest is in the keys of both evaluations, where the project's own metrics run in it."""
    before = changed(VALUES, image=BUILT, metrics__in_image=True)
    after = {**before, "image": {"files": "g"}}
    memory = Memory()
    memory.deliver(before)
    first = memory.plan(after, before)
    assert first["evaluation_report"].reasons == ("depends on the result of container_image",)
    memory.deliver(after, only=("container_image",))
    plan = memory.plan(after, before)
    assert plan["evaluation_report"].action == plan["served_evaluation_report"].action == "run"
    assert plan["evaluation_report"].reasons == ("container_image changed",)
    assert plan["fine_tuned_checkpoint"].action == plan["quantized_artifact"].action == "reuse"
    elsewhere = {**after, "metrics.in_image": False}
    memory.deliver({**before, "metrics.in_image": False})
    assert memory.plan(elsewhere, before)["evaluation_report"].action == "reuse"
