"""The ledger's tables. Queries belong in the other modules of `resources.ledger`."""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 11
"""1: initial. 2: approvals and holds. 3: number of tries of a request. 4: tombstones of collected results.
5: the audit trail covers rows. 6: projections. 7: the outbox of notifications. 8: reviews.
9: budgets and partial requests. 10: answers to code hosts. 11: proposals.
`resources.ledger.migrations` upgrades older ledgers."""
metadata = MetaData()

schema = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("revision", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("asked_by", String(32), nullable=False),
    Column("base", String(64)),
    Column("run_id", String(64)),
    Column("tries", Integer, nullable=False, server_default="1"),
    Column("detail", Text, nullable=False, default=""),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("stages", Text),
    Column("model", String(128), nullable=False, server_default=""),
    UniqueConstraint("project", "revision", "generation"),
)
"""One row per (project, revision, generation): inserting it is the lock that makes one change one run.
`stages` are the names, separated by spaces, of those that a person asked for; NULL: all that the plan selects.
`model` is a registered model that is evaluated too."""

active_requests = Table(
    "active_requests",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("request", Integer, nullable=False),
)
"""At most one row per project: the primary key prevents two daemons from starting two commits at once."""

pins = Table(
    "pins",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("project", String(64), primary_key=True),
    Column("revision", String(64), nullable=False),
)
"""Root run → revision, insert if absent: all steps of a run started without a revision use the same one."""

records = Table(
    "records",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("stage", String(40), nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("at", Float, nullable=False),
    Column("bytes", Float, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Records whose artifact was collected: the record stays as evidence, but is no longer used as a result."""

rebuilds = Table(
    "rebuilds",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("salt", Text, nullable=False),
)
"""Unsalted key → salt of the newest deliberate rebuild. Kept permanently, so that no later run finds the old result."""

edges = Table(
    "edges",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("revision", String(64), primary_key=True),
    Column("stage", String(40), primary_key=True),
    Column("key", String(64), nullable=False),
    Column("reused", Boolean, nullable=False),
    Column("updated", Float, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("revision", String(64), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("project", String(64), nullable=False, index=True),
    Column("revision", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
)

servings = Table(
    "servings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False),
    Column("environment", String(16), nullable=False),
    Column("release", String(64), nullable=False),
    Column("revision", String(64), nullable=False),
    Column("since", Float, nullable=False),
)
"""When a release started to serve an environment; an environment's newest row is what it serves now."""

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("release", String(64), nullable=False),
    Column("revision", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("updated", Float, nullable=False),
)

projections = Table(
    "projections",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)
"""What other systems were last told of the ledger's state, such as the release whose model has the alias champion."""

notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("target", String(40), nullable=False),
    Column("message", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due", Float, nullable=False),
    Column("detail", Text, nullable=False),
    Column("updated", Float, nullable=False),
    UniqueConstraint("project", "target", "message"),
)
"""The outbox: one row per message and target, however often its event is derived. `due` is when the next attempt may
begin; an attempt moves it ahead first, so two processes never make the same one."""

answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("host", String(300), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("remote", String(64), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due", Float, nullable=False),
    Column("detail", Text, nullable=False),
    Column("updated", Float, nullable=False),
    UniqueConstraint("project", "host", "subject"),
)
"""What a code host shows of a project: one row per check, comment and deployment, and one for the host itself."""

proposals = Table(
    "proposals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("subject", String(300), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("base", String(64), nullable=False),
    Column("revision", String(64), nullable=False),
    Column("ref", String(300), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due", Float, nullable=False),
    Column("detail", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    UniqueConstraint("project", "subject", "number"),
)
"""What the bot has seen move and proposed: one row per state of an imported path or a prompt. Inserting it is the lock
that makes one move one proposal."""

approvals = Table(
    "approvals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("release", String(64), nullable=False, index=True),
    Column("choice", String(16), nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
)
"""Every human decision on a release, with everything that it is bound to. Append-only."""

reviews = Table(
    "reviews",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("report", String(64), nullable=False, index=True),
    Column("what", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
)
"""Every human decision on an evaluation report, and every registration that followed from one. Append-only."""

budget_decisions = Table(
    "budget_decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("revision", String(64), nullable=False, index=True),
    Column("choice", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
)
"""Every human decision on a run that costs more than its budget. Append-only."""

holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(64), nullable=False, index=True),
    Column("release", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("held_by", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("lifted", Float),
)
"""A rolled-back release is held while `lifted` is empty; the audit trail has the reason for lifting."""

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("event", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
)
"""Hash-chained: each row's hash covers the previous one. An event has the digests of all rows that its transaction
wrote (`resources.ledger.row_digests`), so that altered and removed rows of every table are detected, and added ones."""
