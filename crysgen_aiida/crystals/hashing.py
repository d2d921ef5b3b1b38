"""Content hashes that do not depend on the Parquet writer, the chunking or what lies under a null."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def table_hash(table: pa.Table, *, ignore_metadata: frozenset[str] = frozenset()) -> str:
    """Return the SHA-256 of the canonical content of an Arrow table: names, types, metadata, values.

    Parquet bytes change with the version of the library that wrote them; this does not.
    """
    digest = hashlib.sha256()
    meta = {k: v for k, v in _text(table.schema.metadata).items() if k not in ignore_metadata}
    digest.update(json.dumps(meta, sort_keys=True).encode())
    for field in table.schema:
        header = [field.name, _type_name(field.type), _text(field.metadata)]
        digest.update(json.dumps(header, sort_keys=True).encode())
        chunked = table.column(field.name)
        _update(digest, chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0))
    return digest.hexdigest()


def json_hash(value: Any) -> str:
    """Return the SHA-256 of a JSON-serialisable value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_hash(folder: Path, names: Iterable[str]) -> str:
    """Return one hash over the named files of a folder: :func:`json_hash` of name to :func:`file_hash`."""
    return json_hash({name: file_hash(folder / name) for name in names})


def _text(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    # "ARROW:schema" and "pandas" are written by libraries about themselves, not about the content
    text = {k.decode(): v.decode() for k, v in (metadata or {}).items()}
    return {k: v for k, v in text.items() if k != "pandas" and not k.startswith(("ARROW:", "PARQUET:"))}


def _type_name(kind: pa.DataType) -> str:
    # the name of a list's inner field ("item", "element") depends on who wrote the file
    if pa.types.is_fixed_size_list(kind):
        return f"list<{_type_name(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return str(kind)


def _update(digest: Any, array: pa.Array | pa.ChunkedArray) -> None:
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    digest.update(len(array).to_bytes(8, "little"))
    digest.update(np.packbits(np.asarray(pc.is_valid(array))).tobytes())
    kind = array.type
    if pa.types.is_dictionary(kind):
        _update(digest, array.dictionary_decode())
    elif pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        digest.update(np.asarray(lengths, dtype="<i8").tobytes())
        _update(digest, array.drop_null().flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = [v.encode() for v in array.drop_null().to_pylist()]
        digest.update(np.array([len(v) for v in texts], dtype="<i8").tobytes())
        digest.update(b"".join(texts))
    elif pa.types.is_boolean(kind):
        digest.update(np.packbits(np.asarray(array.drop_null(), dtype=bool)).tobytes())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = np.asarray(array.drop_null())
        if pa.types.is_floating(kind):
            values = values + 0.0  # -0.0 and 0.0 are the same number
        digest.update(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())
    elif pa.types.is_null(kind):
        pass
    else:
        raise TypeError(f"Columns of type {kind} are not part of any packed set; use numbers, text, or lists of them.")
