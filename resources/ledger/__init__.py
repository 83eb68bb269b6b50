"""The ledger: the transactional database of all state, on SQLite or PostgreSQL.

Each method is one transaction. `llmops_assets.domain` decides what to do with what is read here. Dagster's cursors and
run keys and MLflow's aliases are projections of the ledger. This module only exports its class; the modules of this
package are named after what they store.
"""

from resources.ledger.answers import AnswerRows
from resources.ledger.decisions import Decisions
from resources.ledger.faults import Conflict, LedgerError
from resources.ledger.outbox import Outbox
from resources.ledger.proposals import ProposalRows
from resources.ledger.records import Records
from resources.ledger.releases import ServedRelease

__all__ = ["Conflict", "Ledger", "LedgerError", "ServedRelease"]


class Ledger(Decisions, Records, Outbox, AnswerRows, ProposalRows):
    """All of the ledger's operations. Opens lazily: the constructor does no I/O."""
