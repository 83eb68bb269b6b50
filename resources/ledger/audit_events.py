"""The ledger's chain of events: each has the hash of the one before it."""

import json
from collections.abc import Mapping
from typing import Any

from llmops_assets.domain.audit import link_hash
from resources.ledger import sql


def append_event(c: "sql.Connection", at: float, what: Mapping[str, Any]) -> None:
    """Appends an event to the chain. The caller is the only writer."""
    previous = c.execute(sql.select(sql.audit.c.hash).order_by(sql.audit.c.id.desc()).limit(1)).scalar() or ""
    text = json.dumps(dict(what), sort_keys=True)
    c.execute(sql.insert(sql.audit).values(at=at, event=text, previous=previous, hash=link_hash(previous, at, text)))
