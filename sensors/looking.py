"""What the sensors of all projects share: looks at their remotes."""

from contextlib import suppress

from llmops_assets.config.yaml_validation import ConfigError
from resources.assembly import Clients
from resources.project_source.errors import SourceError


def begin_all(clients: Clients) -> None:
    """Has every project's remote looked at, whose sensors tick next: their answers arrive together."""
    for project in clients.settings.projects:
        with suppress(ConfigError, SourceError):  # its own ticks say so
            clients.sources(project).looks.begin_if_due()
