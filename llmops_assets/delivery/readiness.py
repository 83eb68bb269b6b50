"""What a run needs outside of this system: the artifact store, and the data in the DVC remote."""

from llmops_assets.config.yaml_validation import ConfigError
from resources.artifact_store.store import StoreDenied
from resources.assembly import Clients
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository

_READ_DATA = ("dataset_version", "fine_tuned_checkpoint")
"""The stages that read from the DVC remote."""


def waits_for(clients: Clients, source: ProjectRepository, revision: str) -> str | None:
    """Why a run at this revision could not work now; None if it can.

    A run that is started while its storage is down fails, and after four of them the request fails permanently. So a
    request whose run has died waits here instead, however long it takes, and then continues.
    """
    try:
        clients.store.require()
        at = source.at(revision)
        if not clients.ledger.resolve(at.values).records.keys() >= set(_READ_DATA) and (
            missing := source.missing_data(at)
        ):
            return f"{', '.join(missing)} is not in the DVC remote; run `dvc push`"
    except (StoreDenied, SourceError, ConfigError) as error:
        return str(error)
    return None
