"""Webhooks in the settings."""

from pathlib import Path

import pytest

from tests.config.mistakes import WEBHOOKS, told


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (WEBHOOKS + "{}\n", ":2: webhooks: no delivery can be verified without a secret"),
        (WEBHOOKS + "{secrets: [hunter2]}\n", ":2: webhooks.secrets.0"),
        (WEBHOOKS + "{secrets: [{env: A}], port: 0}\n", ":2: webhooks.port"),
        (WEBHOOKS + "{secrets: [{env: A}], secret: b}\n", ":2: webhooks.secret: unknown key; did you mean 'secrets'?"),
        (
            "projects:\n- name: zoo\n  repository: /srv/zoo\n  webhook_secrets: [{env: A}]\n",
            ":4: projects.0.webhook_secrets: no receiver",
        ),
    ],
)
def test_a_receiver_that_could_verify_nothing_is_refused(settings_file: Path, text: str, problem: str) -> None:
    [said] = told(settings_file, text)
    assert said.startswith(problem), said
