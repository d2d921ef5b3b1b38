"""Typed models of the index. The graph is the truth; every row here can be made again from it.

Integer keys are private to one index file: they follow the order of synchronisation. What is compared between two
indices, and what users see, are uuids, content hashes and row numbers.

Values are kept twice. ``property_value`` holds every value a candidate has, by property, method and source; the wide
table ``current`` (:mod:`crysgen_aiida.store.index.wide`) holds for each property the one value that the policy of
methods prefers, and is what filters scan.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

#: SQLite numbers rows by itself only for the type INTEGER.
Key = BigInteger().with_variant(Integer, "sqlite")

#: Names for constraints, so that migrations can refer to them on every database.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """All models. No table names its schema: on PostgreSQL the connection's search path does."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012  # SQLAlchemy reads it off the class


class Campaign(Base):
    """What a user started: the outermost process above a screening."""

    __tablename__ = "campaign"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    process: Mapped[str]  #: entry point of the process, e.g. ``aiida.workflows:crysgen.inverse_design``
    label: Mapped[str]
    created: Mapped[str]  #: ISO 8601, UTC

    batches: Mapped[list[Batch]] = relationship(back_populates="campaign")


class Dataset(Base):
    """A set of crystals that no process made: imported, or entered by hand."""

    __tablename__ = "dataset"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    label: Mapped[str]
    content_hash: Mapped[str] = mapped_column(String(64))
    n_rows: Mapped[int]
    n_ok: Mapped[int]
    described: Mapped[dict[str, Any]]  #: the set's own metadata: name, licence, sources


class Generator(Base):
    """A trained generator."""

    __tablename__ = "generator"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    label: Mapped[str]
    name: Mapped[str]  #: of the system: mattergpt, ftcp, …
    version: Mapped[str]
    weights_hash: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int | None] = mapped_column(BigInteger)
    n_parameters: Mapped[int | None] = mapped_column(BigInteger)
    val_loss: Mapped[float | None]
    conditions: Mapped[list[str]]


class Batch(Base):
    """Candidates that were screened together: the rows of one relaxed set, judged by one table.

    ``key`` is a hash of the contents of all sets involved. Screenings with the same key (a cached repetition, an
    imported copy) are the same batch; they are listed in :class:`Screening`, and the earliest gives the addresses.
    """

    __tablename__ = "batch"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaign.id"), index=True)
    generator_id: Mapped[int | None] = mapped_column(ForeignKey("generator.id"), index=True)
    screen_uuid: Mapped[str] = mapped_column(String(36))  #: of the earliest screening
    relaxed_uuid: Mapped[str] = mapped_column(String(36), index=True)  #: what addresses begin with
    table_uuid: Mapped[str] = mapped_column(String(36))
    decoded_uuid: Mapped[str | None] = mapped_column(String(36))
    sequences_uuid: Mapped[str | None] = mapped_column(String(36))
    reference_uuid: Mapped[str | None] = mapped_column(String(36))
    reference_name: Mapped[str | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)  #: of the sampling
    protocol: Mapped[str | None]
    requested: Mapped[dict[str, Any]]
    n_rows: Mapped[int]
    n_sequences: Mapped[int | None]
    n_decoded: Mapped[int | None]  #: rows of the decoded set whose status is ok
    funnel: Mapped[dict[str, Any]]  #: counts and reasons of every stage, see :mod:`crysgen_aiida.store.explain.funnel`
    names: Mapped[dict[str, Any]]  #: name to kind of the columns of ``current`` it fills
    created: Mapped[str]  #: ISO 8601, UTC, of the earliest screening
    complete: Mapped[bool]  #: False while it is being written in several transactions

    campaign: Mapped[Campaign | None] = relationship(back_populates="batches")
    generator: Mapped[Generator | None] = relationship()
    screenings: Mapped[list[Screening]] = relationship(back_populates="batch", cascade="all, delete-orphan")
    columns: Mapped[list[PropertyColumn]] = relationship(back_populates="batch", cascade="all, delete-orphan")
    verdicts: Mapped[list[Verdict]] = relationship(back_populates="batch", cascade="all, delete-orphan")


class Screening(Base):
    """A finished screening of the graph: the unit in which the index is synchronised."""

    __tablename__ = "screening"

    uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"), index=True)
    relaxed_uuid: Mapped[str] = mapped_column(String(36), index=True)
    #: What a batch says of its earliest screening, should this become it. Entries named ``pk`` are private to the
    #: profile: another copy of the same graph has other ones.
    described: Mapped[dict[str, Any]]
    created: Mapped[str]

    batch: Mapped[Batch] = relationship(back_populates="screenings")


class Results(Base):
    """A table of results about rows of relaxed sets (a verification): the other unit of synchronisation."""

    __tablename__ = "results"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    created: Mapped[str]  #: ISO 8601, UTC
    n_rows: Mapped[int]
    n_placed: Mapped[int]  #: rows whose candidate is in the index
    n_refused: Mapped[int]  #: rows without a value, or of a property that is not registered
    addressed: Mapped[list[str]]  #: uuids its addresses begin with

    columns: Mapped[list[PropertyColumn]] = relationship(back_populates="results", cascade="all, delete-orphan")


class Candidate(Base):
    """One row of a batch: who it is. Its values are in ``current`` and ``property_value``."""

    __tablename__ = "candidate"
    __table_args__ = (
        UniqueConstraint("batch_id", "row"),
        Index(
            None,
            "group_id",
            sqlite_where=text("group_id IS NOT NULL"),
            postgresql_where=text("group_id IS NOT NULL"),
        ),
    )

    # keys are given by hand, and checked nowhere: a foreign key costs PostgreSQL a look-up for each of a million rows
    id: Mapped[int] = mapped_column(Key, primary_key=True, autoincrement=False)
    batch_id: Mapped[int] = mapped_column(Key)
    row: Mapped[int]  #: of the relaxed set
    content_id: Mapped[str | None] = mapped_column(String(64))
    decoded_row: Mapped[int | None]
    sequence_row: Mapped[int | None]
    duplicate_of: Mapped[int | None]  #: row of the same batch it equals, found by the screening
    group_id: Mapped[int | None] = mapped_column(Key)  #: candidate it equals across batches, see `match`

    batch: Mapped[Batch] = relationship(primaryjoin="foreign(Candidate.batch_id) == Batch.id", viewonly=True)


class PropertyColumn(Base):
    """A column of values with one meaning: property, unit, method and the node they were read from."""

    __tablename__ = "property_column"
    __table_args__ = (Index(None, "batch_id", "property", "method"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batch.id"))  #: set if it covers a batch
    results_id: Mapped[int | None] = mapped_column(ForeignKey("results.id"), index=True)  #: set if of a results table
    property: Mapped[str]
    unit: Mapped[str]
    method: Mapped[str]
    source: Mapped[str]  #: which set of its batch it was read from: table, relaxed; or results
    source_uuid: Mapped[str] = mapped_column(String(36))
    created: Mapped[str]  #: of the source; among equal methods the newest is current

    batch: Mapped[Batch | None] = relationship(back_populates="columns")
    results: Mapped[Results | None] = relationship(back_populates="columns")


class PropertyValue(Base):
    """A value of a property of a candidate, in the unit of its column, with its standard uncertainty if known."""

    __tablename__ = "property_value"
    # the key is the table on SQLite: values of a column lie side by side, in the order of the candidates
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012

    column_id: Mapped[int] = mapped_column(Key, primary_key=True, autoincrement=False)
    candidate_id: Mapped[int] = mapped_column(Key, primary_key=True, autoincrement=False)
    value: Mapped[float]
    sigma: Mapped[float | None]


class Verdict(Base):
    """A yes/no column of a batch: how often each answer, and why not. The answers themselves are in ``current``."""

    __tablename__ = "verdict"
    __table_args__ = (UniqueConstraint("batch_id", "name"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    name: Mapped[str]
    n_true: Mapped[int]
    n_false: Mapped[int]
    n_unknown: Mapped[int]
    reasons: Mapped[dict[str, Any]]  #: reason to number of rows, the most frequent ones

    batch: Mapped[Batch] = relationship(back_populates="verdicts")


class LineageEdge(Base):
    """A step of the graph between two sets: ``made_uuid`` was made from ``from_uuid`` by a process."""

    __tablename__ = "lineage_edge"

    from_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    process_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    made_uuid: Mapped[str] = mapped_column(String(36), primary_key=True, index=True)
    verb: Mapped[str]
    label: Mapped[str]  #: link label of the input
    seed: Mapped[int | None] = mapped_column(BigInteger)


class SavedQuery(Base):
    """A query somebody gave a name. It is the one thing here that a rebuild keeps rather than makes."""

    __tablename__ = "saved_query"

    name: Mapped[str] = mapped_column(primary_key=True)
    query: Mapped[dict[str, Any]]


class WideColumn(Base):
    """A column of ``current``, which grows as properties and verdicts appear."""

    __tablename__ = "wide_column"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  #: number, whole, flag or text
    unit: Mapped[str | None]  #: of numbers that are registered properties or say so
    is_property: Mapped[bool]


class Setting(Base):
    """A setting of the index: the policy of methods, for one."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
