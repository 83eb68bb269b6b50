"""Proposals in the settings."""

from pathlib import Path

import pytest

from tests.config.mistakes import told

PROPOSALS = "projects:\n- name: zoo\n  repository: /srv/zoo\n  proposals:\n"

IMPORTS = PROPOSALS + "    imports:\n      remote: s3://zoo/dvc\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (PROPOSALS + "    to: watched_branch\n", ":4: projects.0.proposals: it proposes nothing"),
        (IMPORTS, ":5: projects.0.proposals.imports.upstreams: is missing"),
        (IMPORTS + "      upstreams: []\n", ":7: projects.0.proposals.imports.upstreams: it is empty"),
        (IMPORTS + "      upstreams: [/]\n", ":7: projects.0.proposals.imports.upstreams.0: it allows every file"),
        (
            IMPORTS + "      upstreams: [../exports]\n",
            ":7: projects.0.proposals.imports.upstreams.0: '../exports' is no",
        ),
        (
            IMPORTS + "      upstreams: ['https://ada:s3cret@h/x']\n",
            ":7: projects.0.proposals.imports.upstreams.0: it contains a password or token",
        ),
        (
            PROPOSALS + "    prompts:\n    - {name: ask, alias: production}\n",
            ":6: projects.0.proposals.prompts.0.released: it is the alias whose move is proposed",
        ),
        (
            PROPOSALS + "    prompts:\n    - name: ask\n    - name: other\n",
            ":7: projects.0.proposals.prompts.1.key: another prompt writes 'prompt' already",
        ),
        (
            PROPOSALS + "    bot: {email: nobody}\n    prompts: [{name: ask}]\n",
            ":5: projects.0.proposals.bot.email: 'nobody' is no e-mail address",
        ),
    ],
)
def test_proposals_that_could_do_too_much_or_nothing_are_refused(settings_file: Path, text: str, problem: str) -> None:
    [said] = told(settings_file, text)
    assert said.startswith(problem) and "s3cret" not in said, said
