"""Check runs of an App, deployments, and what the token may do."""

import pytest

from llmops_assets.domain.findings import Finding
from llmops_assets.domain.records import Check, CiReport
from llmops_assets.domain.rollout import RolloutState
from llmops_assets.domain.verdict import judge_checks
from resources.ledger import Ledger
from tests.delivery.code_host.answers import A, Make, begin, end
from tests.support.code_hosts import Fault
from tests.support.github import GitHubServer
from tests.support.ledgers import Clock
from tests.support.records import made_by


def test_an_app_posts_check_runs_with_conclusions_and_findings(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    github.app = True
    told = make(own)
    told.run()
    request = begin(own)
    assert told.run().posted == 8 and not github.statuses
    assert github.conclusions(A)["llmops/zoo/ci"] == ("completed", "success")
    assert github.conclusions(A)["llmops/zoo/training"] == ("in_progress", None)
    assert github.conclusions(A)["llmops/zoo/release"] == ("queued", None)
    own.close(request, "waiting", "waiting: llmops approve zoo --report 0123456789ab --reason WHY")
    make(own).run()
    assert github.conclusions(A)["llmops/zoo/training"] == ("completed", "action_required")
    assert len(github.checks) == 8


def test_a_github_app_logs_in_by_its_key_and_renews_its_token(
    own: Ledger, make: Make, github: GitHubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the token of GitHub Actions could post check runs; another App needed a new token each hour."""
    pytest.importorskip("jwt", reason="pip install 'llmops-assets[github-app]'")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    github.app, github.public_key = True, public.decode()
    monkeypatch.setenv("APP_KEY", pem.replace("\n", "\\n"))
    app = {"id": "Iv1.app", "private_key": {"env": "APP_KEY"}}
    told = make(own, app=app)
    told.run()
    begin(own)
    assert told.run().posted == len(github.checks) > 6 and len(github.tokens) == 1, "one token for all requests"
    github.tokens.clear()  # revoked
    own.close(own.requests("zoo")[-1], "rejected", "evaluation_report: perplexity 9 above 5")
    refused = told.run()
    assert refused.left and "does not accept the token" in refused.faults[0] and "ghs_" not in str(refused)
    own.clock.now += 60  # type: ignore[attr-defined]
    assert told.run().left == 0 and len(github.tokens) == 1
    assert github.conclusions(A)["llmops/zoo/training"][0] == "completed"
    asked = [s.path for s in github.seen if "installation" in s.path]
    assert asked == ["/repos/o/zoo/installation", "/app/installations/77/access_tokens"] * 2
    begin(own, "c" * 40)
    (fault,) = make(own, app={**app, "installation": 5}).run().faults
    assert "no token for the GitHub App Iv1.app: POST /app/installations/5/access_tokens: 404: Not Found" in fault
    monkeypatch.setenv("APP_KEY", "-----BEGIN RSA PRIVATE KEY-----\\nc2VjcmV0\\n-----END RSA PRIVATE KEY-----")
    (fault,) = make(own, app=app).run().faults
    assert fault == (
        "code_host.app.private_key: the environment variable APP_KEY: it holds no private RSA key in PEM (-----BEGIN "
        "RSA PRIVATE KEY-----)"
    )


def test_findings_of_the_linter_are_annotations_each_once(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    """120 findings are three requests, and the second's answer is lost."""
    github.app = True
    told = make(own)
    told.run()
    request = own.open_request("zoo", A, 1, "tree changed")
    own.claim(request, "run-1")
    found = tuple(
        Finding(tool="ruff", rule="F401", message="`os` imported but unused", file="src/a.py", line=line)
        for line in range(1, 121)
    )
    checks = (Check(name="ruff", passed=False, summary="120 problems", findings=found),)
    report = CiReport(key="k", made_by=made_by(A), checks=checks)
    own.record_use("zoo", A, own.commit(report), reused=False)
    verdict = judge_checks("the code", "k", report.checks).model_copy(update={"check": "ci_report:passes"})
    own.add_verdict("zoo", A, "ci_report", verdict)
    end(own, request, "rejected", "fine_tuned_checkpoint: ruff: 120 problems")
    github.faults = [Fault("PATCH .*/check-runs/", kind="cut")]
    assert told.run().posted == 0
    clock.now += 10.0
    assert make(own).run().posted == 8
    (ci,) = [c for c in github.checks if c["name"] == "llmops/zoo/ci"]
    assert [a["start_line"] for a in ci["annotations"]] == [*range(1, 121)]
    assert ci["annotations"][0]["path"] == "src/a.py" and "F401" in ci["annotations"][0]["message"]
    assert (ci["status"], ci["conclusion"]) == ("completed", "failure") and "ruff: 120 problems" in str(ci["output"])


def test_a_check_run_whose_answer_was_lost_is_found_again(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    github.app = True
    told = make(own)
    told.run()
    begin(own)
    github.faults = [Fault("POST .*/check-runs", kind="cut")]
    told.run()
    clock.now += 10.0
    make(own).run()
    assert len(github.checks) == 8 == len(github.conclusions(A))


def test_staging_and_production_are_deployments_with_their_states(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    told = make(own)
    told.run()
    begin(own)
    own.serve("zoo", "staging", "d" * 64, A)
    github.faults = [Fault("POST .*/deployments", kind="cut")]
    running = RolloutState(release="d" * 64, replaces="c" * 64, weights=(0.1, 0.5))
    identity, version = own.begin_rollout("zoo", A, running)
    told.run()
    clock.now += 10.0
    make(own).run()

    def shown() -> dict[str, list[str]]:
        return {d["environment"]: [s["state"] for s in d["statuses"]] for d in github.deployments}

    assert shown() == {"zoo-staging": ["success"], "zoo-production": ["in_progress"]}
    own.save_rollout(identity, version, running.model_copy(update={"status": "promoted"}))
    make(own).run()
    assert shown() == {"zoo-staging": ["success"], "zoo-production": ["success", "in_progress"]}
    assert [d["production_environment"] for d in github.deployments] == [True, False]
    own.begin_rollout("zoo", A, running.returned("error_rate 40% above 5%"))
    told.run()
    newest = github.deployments[0]["statuses"][0]
    assert newest["state"] == "failure" and "error_rate 40%" in newest["description"] and len(github.deployments) == 3
