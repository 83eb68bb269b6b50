"""SQLAlchemy's statements and the ledger's tables in one namespace, imported on first use.

For `resources.ledger` only. Loading the code location opens no ledger, and importing SQLAlchemy would be the largest
part of that load after Dagster itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, delete, insert, select, update
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

    from resources.ledger.schema import (
        active_requests,
        answers,
        approvals,
        audit,
        budget_decisions,
        edges,
        holds,
        notifications,
        pins,
        projections,
        proposals,
        rebuilds,
        records,
        releases,
        requests,
        reviews,
        rollouts,
        servings,
        tombstones,
        verdicts,
    )

    __all__ = [
        "Connection",
        "DBAPIError",
        "Engine",
        "IntegrityError",
        "OperationalError",
        "active_requests",
        "answers",
        "approvals",
        "audit",
        "budget_decisions",
        "delete",
        "edges",
        "holds",
        "insert",
        "make_url",
        "notifications",
        "pins",
        "projections",
        "proposals",
        "rebuilds",
        "records",
        "releases",
        "requests",
        "reviews",
        "rollouts",
        "select",
        "servings",
        "tombstones",
        "update",
        "verdicts",
    ]


def __getattr__(name: str) -> Any:
    import sqlalchemy.engine
    import sqlalchemy.exc

    from resources.ledger import schema

    for place in (schema, sqlalchemy, sqlalchemy.engine, sqlalchemy.exc):
        if hasattr(place, name):
            globals()[name] = getattr(place, name)  # cached for later look-ups
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
