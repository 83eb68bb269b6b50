"""The code host in the settings."""

from pathlib import Path

import pytest

from llmops_assets.config.code_host import CodeHostSettings, repository_on_host
from tests.config.mistakes import told

CODE_HOST = "projects:\n  - name: a\n    repository: {}\n    code_host:\n      via: github\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (CODE_HOST.format("x"), ":4: projects.0.code_host.token: is missing; add it"),
        (
            CODE_HOST.format("/srv/x.git") + "      token: {env: T}\n",
            ":4: projects.0.code_host: code_host.repository cannot be derived from the repository's address; add it",
        ),
        (
            CODE_HOST.format("https://github.com/o/n") + "      token: ghp_0123456789\n",
            ":6: projects.0.code_host.token: a token is not written here",
        ),
        (
            CODE_HOST.format("x") + "      token: {env: T}\n      repository: https://github.com/o/n\n",
            ":7: projects.0.code_host.repository: string should match",
        ),
        (
            CODE_HOST.format("x") + "      token: {env: T}\n      api: https://ada:pw@h/api\n      repository: o/n\n",
            ":7: projects.0.code_host.api: it contains a password or token",
        ),
        (
            CODE_HOST.format("x") + "      app: {id: Iv1, private_key: pw}\n",
            ":6: projects.0.code_host.app.private_key: a key",
        ),
        (
            CODE_HOST.format("x") + "      app: {id: Iv1, private_key: {env: K}}\n      token: {env: T}\n",
            ":7: projects.0.code_host.token: an App needs no token; leave one of them out",
        ),
        (
            CODE_HOST.format("x").replace("github", "gitlab") + "      app: {id: Iv1, private_key: {env: K}}\n",
            ":6: projects.0.code_host.app: gitlab has no Apps; set token: {env: NAME}",
        ),
    ],
)
def test_a_mistake_in_a_code_host_is_reported_with_its_line(settings_file: Path, text: str, problem: str) -> None:
    found = told(settings_file, text)
    assert len(found) == 1 and found[0].startswith(problem), found
    assert "pw" not in found[0] and "ghp_" not in found[0]


@pytest.mark.parametrize(
    ("repository", "api", "path"),
    [
        ("https://github.com/o/n.git", "https://api.github.com", "o/n"),
        ("git@github.com:o/n.git", "https://api.github.com", "o/n"),
        ("ssh://git@ghe.example.com:22/o/n", "https://ghe.example.com/api/v3", "o/n"),
        ("https://ghe.example.com:8443/o/n/", "https://ghe.example.com:8443/api/v3", "o/n"),
    ],
)
def test_the_code_host_is_derived_from_the_repository(repository: str, api: str, path: str) -> None:
    host = CodeHostSettings.model_validate({"via": "github", "token": {"env": "T"}})
    assert repository_on_host(host, repository) == (api, path)
    own = host.model_copy(update={"api": "https://proxy.example.com/", "repository": "p/q"})
    assert repository_on_host(own, repository) == ("https://proxy.example.com", "p/q")
