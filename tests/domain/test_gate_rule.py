"""A gate as llmops.yaml has it: what could never refuse or never pass, and its plain text."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from llmops_assets.domain.gate_rule import Gate


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        ({}, "needs at_least, at_most or no_worse_than"),
        ({"no_worse_than": "unquantized"}, "needs `of: served`"),
        ({"at_most": 1, "margin": "two"}, "neither a number nor a percentage"),
        ({"at_most": 1, "margin": "-2%"}, "must be finite and not negative"),
        ({"at_most": 1, "margin": -2}, "must not be negative"),
        ({"at_most": 1, "margin": "nan%"}, "must be finite and not negative"),
        ({"at_most": 1, "margin": "inf"}, "must be finite and not negative"),
        ({"at_most": math.nan}, "finite"),
        ({"at_most": math.inf}, "finite"),
        ({"at_most": 1, "at_lest": 2}, "Extra inputs"),
    ],
)
def test_a_gate_that_could_never_refuse_or_never_pass_is_refused_itself(gate: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Gate(metric="perplexity", **gate)


def test_a_gate_says_itself_in_plain_text() -> None:
    gate = Gate(metric="bleu", of="served", at_least=0.1, no_worse_than="unquantized", margin="2%")
    assert str(gate) == "bleu of served: at least 0.1 and no worse than unquantized (margin 2%)"
