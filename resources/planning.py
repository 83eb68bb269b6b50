"""The plan of a revision, with the ledger's records and the revision's values put before the pure planner."""

from llmops_assets.domain.demand import demanded
from llmops_assets.domain.plan import Plan, Side, make_plan
from llmops_assets.project import ConfigError
from resources.git import SourceError
from resources.ledger import Ledger
from resources.source import Source


def plan_revision(source: Source, ledger: Ledger, revision: str, base: str | None) -> Plan:
    """What a run at this revision would do, explained against `base`.

    Raises:
        ConfigError, SourceError: the revision cannot be read.
    """
    project = source.project.name
    head = Side(revision=revision, values=source.at(revision).values)
    before = None
    if base is not None:
        try:
            values = source.at(base).values
            before = Side(revision=base, values=values, outputs=demanded(values, ledger.find, ledger.salt_of).outputs)
        except (ConfigError, SourceError):
            before = None  # it cannot be explained against what cannot be read; the plan itself does not need it
    serving = ledger.serving(project, "production")
    held = {hold.release: str(hold) for hold in ledger.holds(project)}
    return make_plan(project, head, ledger.find, before, serving.release if serving else None, ledger.salt_of, held)
