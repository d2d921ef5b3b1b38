"""Node types that hold one packed set each: a Parquet file, and what a query needs to know without opening it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.orm.implementation.utils import clean_value
from aiida.orm.nodes.caching import NodeCaching
from aiida.orm.pydantic import OrmMetadataField

from crysgen_aiida.crystals import schema
from crysgen_aiida.crystals.crystal_set import CrystalSet
from crysgen_aiida.crystals.errors import BadInput
from crysgen_aiida.crystals.table import Filter, PackedTable, PropertyTable, ReferenceSet, SequenceSet
from crysgen_aiida.data.decision import DecisionSet
from crysgen_aiida.data.patience import be_patient

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

be_patient()

T = TypeVar("T", bound=PackedTable)

#: The oldest schema this program still reads. Raise it only when a migration is dropped.
OLDEST_SCHEMA = 1


class ContentCaching(NodeCaching):
    """Hash a node by the content hash of its set: Parquet bytes change with the library that wrote them."""

    def get_objects_to_hash(self) -> dict[str, Any]:
        return {"class": str(self._node.__class__), "content_hash": self._node.base.attributes.get("content_hash")}


class PackedData(orm.Data, Generic[T]):
    """A packed set of rows as one node; ``table`` gives back the set.

    A row is addressed by its position. Rows are never nodes: use ``get(row)``, ``iter()``, ``select(filters)``.

    :param table: the set to hold.
    """

    #: One file name for all, because file names are part of what AiiDA archives compare.
    FILENAME: ClassVar[str] = "set.parquet"
    TABLE_CLASS: ClassVar[type[PackedTable]] = PackedTable

    _CLS_NODE_CACHING = ContentCaching

    class AttributesModel(orm.Data.AttributesModel):
        """What can be queried without opening the file."""

        schema_version: int = OrmMetadataField(description="Version of the column schema the file was written with")
        kind: str = OrmMetadataField(description="Kind of set: crystals, sequences, table, reference or decision")
        n_rows: int = OrmMetadataField(description="Number of rows")
        n_ok: int = OrmMetadataField(description="Number of rows whose status is ok")
        content_hash: str = OrmMetadataField(description="SHA-256 of the canonical content, not of the Parquet bytes")
        columns: list[str] = OrmMetadataField(description="Names of the columns")
        column_stats: dict[str, Any] = OrmMetadataField(description="min, max and n_valid of each property column")
        metadata: dict[str, Any] = OrmMetadataField(description="Metadata of the set, JSON values parsed")

    def __init__(self, table: T | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if table is not None:
            self._pack(table)

    @classmethod
    def get_or_create(cls, table: T) -> Self:
        """Return the stored node with this content, or store a new one."""
        query = orm.QueryBuilder()
        query.append(cls, filters={"attributes.content_hash": table.content_hash}, subclassing=False, tag="node")
        query.order_by({"node": {"id": "asc"}}).limit(1)
        found = query.first(flat=True)
        return cast("Self", found) if found is not None else cls(table).store()

    # -- the set --------------------------------------------------------------------------------------------------

    @property
    def table(self) -> T:
        """The set itself, read once.

        :raises BadInput: if the file is corrupt or of a schema this program does not read.
        """
        held = getattr(self, "_table", None)
        if held is None:
            held = self._table = self._read()
        return held

    @property
    def schema_version(self) -> int:
        """Version of the column schema the file was written with."""
        return int(self.base.attributes.get("schema_version"))

    @property
    def kind(self) -> str:
        """Kind of set."""
        return str(self.base.attributes.get("kind"))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.base.attributes.get("n_rows"))

    @property
    def n_ok(self) -> int:
        """Number of rows whose status is ok."""
        return int(self.base.attributes.get("n_ok"))

    @property
    def content_hash(self) -> str:
        """SHA-256 of the canonical content."""
        return str(self.base.attributes.get("content_hash"))

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.base.attributes.get("columns"))

    @property
    def column_stats(self) -> dict[str, dict[str, float | int]]:
        """``{column: {min, max, n_valid}}`` of the property columns."""
        return dict(self.base.attributes.get("column_stats"))

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the set, JSON values parsed."""
        return dict(self.base.attributes.get("metadata"))

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame."""
        return self.table.to_frame()

    def iter(self) -> Iterator[dict[str, Any]]:
        """Iterate over the rows as dictionaries."""
        return self.table.iter()

    def get(self, row: int) -> dict[str, Any]:  # type: ignore[override]  # the base's is a deprecated class method
        """Return one row as a dictionary.

        :raises ImpossibleRequest: if the row does not exist.
        """
        return self.table.get(row)

    def select(self, filters: Sequence[Filter]) -> T:
        """Return the rows that satisfy all ``filters`` as a set (not a node).

        :raises ImpossibleRequest: if a filter names a column that is not there.
        """
        return self.table.select(filters)

    # -- storing --------------------------------------------------------------------------------------------------

    def _pack(self, table: T) -> None:
        if not isinstance(table, self.TABLE_CLASS):
            raise TypeError(
                f"{type(self).__name__} holds a {self.TABLE_CLASS.__name__}, not a {type(table).__name__}; "
                "read the file with the class of its kind."
            )
        buffer = io.BytesIO()
        pq.write_table(table.arrow, buffer, compression="zstd")
        self.base.repository.put_object_from_bytes(buffer.getvalue(), self.FILENAME)
        self.base.attributes.set_many(_attributes(table))
        self._table = table

    def _read(self) -> T:
        check_schema_version(self.schema_version, f"{type(self).__name__}<{self.pk or self.uuid}>")
        content = self.base.repository.get_object_content(self.FILENAME, mode="rb")
        try:
            return cast("T", self.TABLE_CLASS(pq.read_table(io.BytesIO(content))))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise BadInput(
                f"The file of {type(self).__name__}<{self.pk or self.uuid}> cannot be read as Parquet "
                f"({str(error).splitlines()[0]}); the repository is damaged: restore it from a backup or an archive."
            ) from error

    def _validate(self) -> bool:
        super()._validate()
        if self.FILENAME not in self.base.repository.list_object_names():
            raise ValidationError(f"{type(self).__name__} holds no file {self.FILENAME}; construct it with a table.")
        try:
            # AiiDA keeps 14 digits of a float: compare what it would keep
            stated, found = clean_value(self.base.attributes.all), clean_value(_attributes(self._read()))
        except BadInput as error:
            raise ValidationError(str(error)) from error
        wrong = sorted(k for k, v in found.items() if stated.get(k) != v)
        if wrong:
            raise ValidationError(
                f"The attributes {', '.join(wrong)} of {type(self).__name__} do not fit its file; "
                "do not set attributes by hand, construct the node with a table."
            )
        return True


class CrystalSetData(PackedData[CrystalSet]):
    """Crystals, one a row: a data set, a decoded set or a relaxed set."""

    TABLE_CLASS = CrystalSet

    class AttributesModel(PackedData.AttributesModel):
        """Attributes of a set of crystals."""


class SequenceSetData(PackedData[SequenceSet]):
    """Encoded or generated sequences, one a row: strings, genes, formulas or latents."""

    TABLE_CLASS = SequenceSet

    class AttributesModel(PackedData.AttributesModel):
        """Attributes of a set of sequences."""


class PropertyTableData(PackedData[PropertyTable]):
    """Verdicts and properties of the rows of another set, stamped with the protocol that produced them."""

    TABLE_CLASS = PropertyTable

    class AttributesModel(PackedData.AttributesModel):
        """Attributes of a table of properties."""


class ReferenceEnergiesData(PackedData[ReferenceSet]):
    """Reference energies of competing phases: entries, scheme, and the method they were computed with."""

    TABLE_CLASS = ReferenceSet

    class AttributesModel(PackedData.AttributesModel):
        """Attributes of a set of reference energies."""


class DecisionData(PackedData[DecisionSet]):
    """A recorded ranking or a campaign's decision: the query, who asked, and the ranked rows."""

    TABLE_CLASS = DecisionSet

    class AttributesModel(PackedData.AttributesModel):
        """Attributes of a decision."""


def check_schema_version(version: int, what: str) -> None:
    """Refuse a schema this program cannot read.

    :raises BadInput: saying which side to upgrade.
    """
    if version > schema.SCHEMA_VERSION:
        raise BadInput(
            f"{what} was written with schema {version}, but this crysgen-aiida reads up to {schema.SCHEMA_VERSION}: "
            "run `pip install --upgrade crysgen-aiida`."
        )
    if version < OLDEST_SCHEMA:
        raise BadInput(
            f"{what} was written with schema {version}, older than {OLDEST_SCHEMA}, the oldest this crysgen-aiida "
            "reads: make the node again from its data set, or read it with the version of crysgen-aiida it names."
        )


def _attributes(table: PackedTable) -> dict[str, Any]:
    return {
        "schema_version": int(table.metadata["schema_version"]),
        "kind": table.kind,
        "n_rows": len(table),
        "n_ok": int(table.ok.sum()),
        "content_hash": table.content_hash,
        "columns": table.columns,
        "column_stats": table.column_stats(),
        "metadata": _parsed({k: v for k, v in table.metadata.items() if k not in ("schema_version", "kind")}),
    }


def _parsed(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Parse values that are JSON objects or lists, so that they can be queried; NaN becomes null (AiiDA refuses it)."""
    values: dict[str, Any] = {}
    for key, text in metadata.items():
        values[key] = text
        if text[:1] in ("{", "["):
            try:
                values[key] = json.loads(text, parse_constant=lambda _: None)
            except ValueError:
                continue
    return values
