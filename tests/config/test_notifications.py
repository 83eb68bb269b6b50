"""Targets of notifications in the settings."""

from pathlib import Path

import pytest

from llmops_assets.config.settings_file import dump_settings, load_settings
from tests.config.mistakes import NOTIFY, told


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{NOTIFY}    to: x\n", ":2: notifications.0.via: is missing; add it"),
        (
            f"{NOTIFY}    via: slack\n    to: x\n",
            ":3: notifications.0.via: unknown notification 'slack' (known: apprise",
        ),
        (f"{NOTIFY}    via: apprise\n    to: slack://a/b/c\n", ":4: notifications.0.to: slack:// is not written here"),
        (
            f"{NOTIFY}    via: apprise\n    to: https://hooks.slack.com/services/a/b\n",
            ":4: notifications.0.to: https://",
        ),
        (
            f"{NOTIFY}    via: apprise\n    to: mailto://ada:pw@example.com\n",
            ":4: notifications.0.to: it contains a password or token; put it into the environment",
        ),
        (
            f"{NOTIFY}    via: cloudevents\n    to: https://example.com/?token=abc\n",
            ":4: notifications.0.to: it contains a password or token",
        ),
        (f"{NOTIFY}    via: cloudevents\n    to: kafka://x\n", ":4: notifications.0.to: kafka:// is not written here"),
        (f"{NOTIFY}    via: cloudevents\n    to: example.com\n", ":4: notifications.0.to: not a URL such as https://"),
        (f"{NOTIFY}    via: cloudevents\n    to: {{env: 1X}}\n", ":4: notifications.0.to.env: string should match"),
        (
            f"{NOTIFY}    via: apprise\n    to: {{env: X}}\n    token: {{env: Y}}\n",
            ":5: notifications.0.token: apprise has its token in the URL",
        ),
        (
            f"{NOTIFY}    via: cloudevents\n    to: {{env: X}}\n    token: abc\n",
            ":5: notifications.0.token: a secret is not written here",
        ),
        (
            f"{NOTIFY}    via: apprise\n    to: {{env: X}}\n    events: [reject]\n",
            ":5: notifications.0.events.0: input should be 'rejected', 'failed'",
        ),
        (
            f"{NOTIFY}    via: apprise\n    to: {{env: X}}\n    give_up_after: soon\n",
            ":5: notifications.0.give_up_after: 'soon' is not a duration",
        ),
        (
            f"{NOTIFY}    via: apprise\n    to: {{env: X}}\n  - {{name: team, via: apprise, to: {{env: Y}}}}\n",
            ":1: notifications: two targets are called team",
        ),
        (
            "projects:\n  - {name: a, repository: x, notifications: [{name: Team, via: apprise, to: {env: X}}]}\n",
            ":2: projects.0.notifications.0.name: string should match",
        ),
    ],
)
def test_a_mistake_in_a_notification_target_is_reported_with_its_line(
    settings_file: Path, text: str, problem: str
) -> None:
    found = told(settings_file, text)
    assert len(found) == 1 and found[0].startswith(problem), found
    assert "pw" not in found[0] and "abc" not in found[0].replace("not 'abc'", "")


def test_a_project_adds_targets_and_replaces_those_of_its_name(settings_file: Path) -> None:
    """A variable that is not set here must not keep the location from loading: the daemon alone may have it."""
    settings_file.write_text(
        f"{NOTIFY}    via: apprise\n    to: {{env: NOT_SET}}\n"
        "  - {name: hook, via: cloudevents, to: 'https://example.com/'}\n"
        "projects:\n"
        "  - {name: a, repository: x}\n"
        "  - name: b\n    repository: y\n"
        "    notifications:\n"
        "      - {name: hook, via: cloudevents, to: 'https://b.example.com/', events: []}\n"
        "      - {name: own, via: cloudevents, to: 'http://b.example.com/'}\n"
    )
    settings = load_settings()
    assert [t.name for t in settings.targets(settings.projects[0])] == ["team", "hook"]
    found = settings.targets(settings.projects[1])
    assert [(t.name, t.to) for t in found[1:]] == [("hook", "https://b.example.com/"), ("own", "http://b.example.com/")]
    assert found[1].events == ()
    settings_file.write_text(dump_settings(settings))
    assert load_settings() == settings
