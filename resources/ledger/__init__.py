"""The ledger: the one transactional memory, on SQLite or PostgreSQL. Requests, records, edges, verdicts, rollouts.

Each method is one transaction. What to do about what is found here is decided in `llmops_assets.domain`. Dagster's
cursors and run keys and MLflow's aliases are projections of it. Here is the name by which others know it; what it
keeps is in the modules of those names.
"""

from resources.ledger.decisions import Decisions
from resources.ledger.faults import Conflict, LedgerError
from resources.ledger.records import Records
from resources.ledger.releases import ServedRelease

__all__ = ["Conflict", "Ledger", "LedgerError", "ServedRelease"]


class Ledger(Decisions, Records):
    """Opens lazily: constructing one does no I/O."""
