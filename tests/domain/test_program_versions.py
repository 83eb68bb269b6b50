"""A stage's version is raised by hand; if that is forgotten, results of old code are reused. This test demands it."""

import json

import pytest

from llmops_assets.domain.chain import STAGES, WORK
from tests.program_versions import DECIDES, NOTED, code_digest, current, sources

COMMAND = "python -m tests.program_versions"


@pytest.mark.parametrize("stage", [s.name for s in WORK])
def test_an_edit_that_decides_results_raised_the_version_or_was_said_to_change_none(stage: str) -> None:
    noted, now = json.loads(NOTED.read_text())[stage], current()[stage]
    differ = sorted(
        name for name in {*noted["sources"], *now["sources"]} if noted["sources"].get(name) != now["sources"].get(name)
    )
    if noted["version"] != now["version"]:
        pytest.fail(f"the version of {stage} is {now['version']} now: note it with `{COMMAND}`")
    if differ:
        pytest.fail(
            f"{', '.join(differ)} changed, which decides what {stage} yields. If results can differ, raise its version "
            f"in llmops_assets/domain/chain.py (it is {STAGES[stage].version}), so that no old result is adopted; if "
            f"they cannot, leave it. Then note it with `{COMMAND}`"
        )


def test_every_work_stage_says_what_decides_its_result() -> None:
    assert set(DECIDES) == {s.name for s in WORK}


def test_a_module_that_a_program_imports_is_found_also_inside_a_function() -> None:
    found = sources(DECIDES["served_evaluation_report"])
    assert {"llmops_assets.programs.evaluation.scoring", "llmops_assets.programs.data.encoding"} <= set(found)
    assert "llmops_assets.programs.runtime.specs:ServedEvaluateSpec" in found
    assert "llmops_assets.programs.runtime.entry" not in found


def test_words_and_formatting_are_no_edit_but_code_is() -> None:
    code = 'RATE = 2\n"""What it is."""\n\n\ndef f(a, b):\n    """Adds."""\n    return a + b  # the sum\n'
    assert code_digest(code) == code_digest('RATE=2\ndef f(a,b):\n  "Adds two."\n\n  return (a\n    + b)\n')
    assert code_digest(code) != code_digest(code.replace("a + b", "b + a"))
    assert code_digest(code) != code_digest(code.replace("RATE = 2", "RATE = 3"))
