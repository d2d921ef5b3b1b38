"""The tables of the first index."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *columns: Any, **options: Any) -> None:
    """Create a table whose content can be made again: on PostgreSQL it is kept out of the write-ahead log."""
    op.create_table(
        name, *columns, prefixes=["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else [], **options
    )


def upgrade() -> None:
    """Make all tables."""
    _table(
        "campaign",
        sa.Column("id", KEY, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("process", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_campaign"),
        sa.UniqueConstraint("uuid", name="uq_campaign_uuid"),
    )
    _table(
        "candidate",
        sa.Column("id", KEY, autoincrement=False, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("content_id", sa.String(length=64), nullable=True),
        sa.Column("decoded_row", sa.Integer(), nullable=True),
        sa.Column("sequence_row", sa.Integer(), nullable=True),
        sa.Column("duplicate_of", sa.Integer(), nullable=True),
        sa.Column("group_id", KEY, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_candidate"),
        sa.UniqueConstraint("batch_id", "row", name="uq_candidate_batch_id_row"),
    )
    op.create_index(
        "ix_candidate_group_id",
        "candidate",
        ["group_id"],
        unique=False,
        sqlite_where=sa.text("group_id IS NOT NULL"),
        postgresql_where=sa.text("group_id IS NOT NULL"),
    )
    _table(
        "dataset",
        sa.Column("id", KEY, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("n_ok", sa.Integer(), nullable=False),
        sa.Column("described", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dataset"),
        sa.UniqueConstraint("uuid", name="uq_dataset_uuid"),
    )
    _table(
        "generator",
        sa.Column("id", KEY, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("weights_hash", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("n_parameters", sa.BigInteger(), nullable=True),
        sa.Column("val_loss", sa.Double(), nullable=True),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_generator"),
        sa.UniqueConstraint("uuid", name="uq_generator_uuid"),
    )
    _table(
        "lineage_edge",
        sa.Column("from_uuid", sa.String(length=36), nullable=False),
        sa.Column("process_uuid", sa.String(length=36), nullable=False),
        sa.Column("made_uuid", sa.String(length=36), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("from_uuid", "process_uuid", "made_uuid", name="pk_lineage_edge"),
    )
    op.create_index("ix_lineage_edge_made_uuid", "lineage_edge", ["made_uuid"], unique=False)
    _table(
        "property_value",
        sa.Column("column_id", KEY, autoincrement=False, nullable=False),
        sa.Column("candidate_id", KEY, autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("sigma", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("column_id", "candidate_id", name="pk_property_value"),
        sqlite_with_rowid=False,
    )
    _table(
        "results",
        sa.Column("id", KEY, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("n_placed", sa.Integer(), nullable=False),
        sa.Column("n_refused", sa.Integer(), nullable=False),
        sa.Column("addressed", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_results"),
        sa.UniqueConstraint("uuid", name="uq_results_uuid"),
    )
    op.create_table(
        "saved_query",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_saved_query"),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_setting"),
    )
    _table(
        "wide_column",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=True),
        sa.Column("is_property", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_wide_column"),
    )
    _table(
        "batch",
        sa.Column("id", KEY, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", KEY, nullable=True),
        sa.Column("generator_id", KEY, nullable=True),
        sa.Column("screen_uuid", sa.String(length=36), nullable=False),
        sa.Column("relaxed_uuid", sa.String(length=36), nullable=False),
        sa.Column("table_uuid", sa.String(length=36), nullable=False),
        sa.Column("decoded_uuid", sa.String(length=36), nullable=True),
        sa.Column("sequences_uuid", sa.String(length=36), nullable=True),
        sa.Column("reference_uuid", sa.String(length=36), nullable=True),
        sa.Column("reference_name", sa.String(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("protocol", sa.String(), nullable=True),
        sa.Column("requested", sa.JSON(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("n_sequences", sa.Integer(), nullable=True),
        sa.Column("n_decoded", sa.Integer(), nullable=True),
        sa.Column("funnel", sa.JSON(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name="fk_batch_campaign_id"),
        sa.ForeignKeyConstraint(["generator_id"], ["generator.id"], name="fk_batch_generator_id"),
        sa.PrimaryKeyConstraint("id", name="pk_batch"),
        sa.UniqueConstraint("key", name="uq_batch_key"),
    )
    op.create_index("ix_batch_campaign_id", "batch", ["campaign_id"], unique=False)
    op.create_index("ix_batch_generator_id", "batch", ["generator_id"], unique=False)
    op.create_index("ix_batch_relaxed_uuid", "batch", ["relaxed_uuid"], unique=False)
    _table(
        "property_column",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=True),
        sa.Column("results_id", KEY, nullable=True),
        sa.Column("property", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("source_uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="fk_property_column_batch_id"),
        sa.ForeignKeyConstraint(["results_id"], ["results.id"], name="fk_property_column_results_id"),
        sa.PrimaryKeyConstraint("id", name="pk_property_column"),
    )
    op.create_index(
        "ix_property_column_batch_id_property_method",
        "property_column",
        ["batch_id", "property", "method"],
        unique=False,
    )
    op.create_index("ix_property_column_results_id", "property_column", ["results_id"], unique=False)
    _table(
        "screening",
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("relaxed_uuid", sa.String(length=36), nullable=False),
        sa.Column("described", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="fk_screening_batch_id"),
        sa.PrimaryKeyConstraint("uuid", name="pk_screening"),
    )
    op.create_index("ix_screening_batch_id", "screening", ["batch_id"], unique=False)
    op.create_index("ix_screening_relaxed_uuid", "screening", ["relaxed_uuid"], unique=False)
    _table(
        "verdict",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("n_true", sa.Integer(), nullable=False),
        sa.Column("n_false", sa.Integer(), nullable=False),
        sa.Column("n_unknown", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="fk_verdict_batch_id"),
        sa.PrimaryKeyConstraint("id", name="pk_verdict"),
        sa.UniqueConstraint("batch_id", "name", name="uq_verdict_batch_id_name"),
    )
    _table(
        "current",
        sa.Column("candidate_id", KEY, primary_key=True, autoincrement=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("status", sa.String),
        sa.Column("reduced_formula", sa.String),
        sa.Column("n_atoms", sa.BigInteger),
        sa.Column("n_elements", sa.BigInteger),
        sa.Column("elements_low", sa.BigInteger),
        sa.Column("elements_high", sa.BigInteger),
    )
