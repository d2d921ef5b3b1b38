"""GeneratorData: a trained generator as four plain files. Nothing in it can run code."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.orm.pydantic import OrmMetadataField

from crysgen_aiida.crystals.errors import BadInput, CorruptWeights
from crysgen_aiida.crystals.hashing import json_hash
from crysgen_aiida.generators.latent_points import PREFIX

if TYPE_CHECKING:
    from typing_extensions import Self

WEIGHTS, CONFIG, VOCABULARY, HISTORY = "weights.safetensors", "config.json", "vocabulary.json", "history.jsonl"
FILES = (WEIGHTS, CONFIG, VOCABULARY, HISTORY)

#: Raised whenever a key of ``config.json`` that this class reads is renamed or given another meaning.
SCHEMA_VERSION = 1

#: Keys that would make equal trainings differ; they belong in ``result.json``.
_CLOCK_KEYS = frozenset({"time", "timestamp", "date", "elapsed", "seconds", "wall_time", "hostname"})


class GeneratorData(orm.Data):
    """A trained generator: ``weights.safetensors``, ``config.json``, ``vocabulary.json`` and ``history.jsonl``.

    :param folder: the folder that holds exactly these files.
    :raises BadInput: if a file is missing, unknown or malformed.
    :raises CorruptWeights: if the weights are not a whole safetensors file.
    """

    class AttributesModel(orm.Data.AttributesModel):
        """What can be queried without opening the files."""

        schema_version: int = OrmMetadataField(description="Version of the checkpoint layout")
        generator: str = OrmMetadataField(description="Entry-point name of the generator")
        generator_version: str = OrmMetadataField(description="Version of the generator's code")
        n_parameters: int = OrmMetadataField(description="Number of numbers in the weights")
        conditions: list[str] = OrmMetadataField(description="What the trained model can be conditioned on")
        spec: dict[str, Any] = OrmMetadataField(description="All settings of the training")
        weights_hash: str = OrmMetadataField(description="SHA-256 of the weights file")
        content_hash: str = OrmMetadataField(description="SHA-256 over the four files")
        seed: int | None = OrmMetadataField(None, description="Seed of the training")
        val_loss: float | None = OrmMetadataField(None, description="Last validation loss of the history")

    def __init__(self, folder: str | Path | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if folder is not None:
            contents = read_folder(Path(folder))
            for name, content in contents.items():
                self.base.repository.put_object_from_bytes(content, name)
            self.base.attributes.set_many(describe(contents))

    @classmethod
    def get_or_create(cls, folder: str | Path) -> Self:
        """Return the stored generator with these files, or store a new one."""
        content_hash = describe(read_folder(Path(folder)))["content_hash"]
        query = orm.QueryBuilder()
        query.append(cls, filters={"attributes.content_hash": content_hash}, subclassing=False, tag="node")
        query.order_by({"node": {"id": "asc"}}).limit(1)
        found = query.first(flat=True)
        return cast("Self", found) if found is not None else cls(folder).store()

    @property
    def schema_version(self) -> int:
        """Version of the checkpoint layout."""
        return int(self.base.attributes.get("schema_version"))

    @property
    def generator(self) -> str:
        """Entry-point name of the generator."""
        return str(self.base.attributes.get("generator"))

    @property
    def generator_version(self) -> str:
        """Version of the generator's code that trained it."""
        return str(self.base.attributes.get("generator_version"))

    @property
    def n_parameters(self) -> int:
        """Number of numbers in the weights."""
        return int(self.base.attributes.get("n_parameters"))

    @property
    def conditions(self) -> list[str]:
        """What the trained model can be conditioned on."""
        return list(self.base.attributes.get("conditions"))

    @property
    def spec(self) -> dict[str, Any]:
        """All settings of the training."""
        return dict(self.base.attributes.get("spec"))

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights file."""
        return str(self.base.attributes.get("weights_hash"))

    @property
    def content_hash(self) -> str:
        """SHA-256 over the four files."""
        return str(self.base.attributes.get("content_hash"))

    @property
    def seed(self) -> int | None:
        """Seed of the training, None if it was not stated."""
        return cast("int | None", self.base.attributes.get("seed", None))

    @property
    def val_loss(self) -> float | None:
        """Last validation loss of the history, None if there is none."""
        return cast("float | None", self.base.attributes.get("val_loss", None))

    def history(self) -> list[dict[str, Any]]:
        """Return the training history, one dictionary a line."""
        return read_history(self._read(HISTORY))

    def write(self, folder: str | Path) -> None:
        """Write the four files into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).write_bytes(self._read(name))

    def _read(self, name: str) -> bytes:
        return self.base.repository.get_object_content(name, mode="rb")

    def _validate(self) -> bool:
        super()._validate()
        names = set(self.base.repository.list_object_names())
        try:
            check_names(names, "This GeneratorData")
            found = describe({name: self._read(name) for name in FILES})
        except (BadInput, CorruptWeights) as error:
            raise ValidationError(str(error)) from error
        wrong = sorted(k for k, v in found.items() if self.base.attributes.get(k, None) != v)
        if wrong:
            raise ValidationError(
                f"The attributes {', '.join(wrong)} of this GeneratorData do not fit its files; "
                "do not set attributes by hand, construct the node from a folder."
            )
        return True


def check_names(names: set[str], what: str) -> None:
    """Refuse missing and unknown files.

    :raises BadInput: naming them; a pickle is named as what it is.
    """
    unknown = sorted(names - set(FILES))
    pickles = [n for n in unknown if n.endswith((".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin"))]
    if pickles:
        raise BadInput(
            f"{what} holds {', '.join(pickles)}: pickled weights can run code when loaded and are refused; "
            "save the state dictionary as weights.safetensors."
        )
    if unknown:
        raise BadInput(f"{what} holds {', '.join(unknown)}; only {', '.join(FILES)} belong in a generator.")
    missing = [n for n in FILES if n not in names]
    if missing:
        raise BadInput(f"{what} lacks {', '.join(missing)}; a generator is {', '.join(FILES)}.")


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the content of the four files of a checkpoint folder.

    :raises BadInput: if there is no such folder, or a file is missing or unknown.
    """
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder.name}; give the folder that holds {', '.join(FILES)}.")
    check_names({p.name for p in folder.iterdir()}, f"The folder {folder.name}")
    return {name: (folder / name).read_bytes() for name in FILES}


def describe(contents: dict[str, bytes]) -> dict[str, Any]:
    """Return the attributes of a generator from its files.

    :raises BadInput: if a JSON file is malformed or lacks what it must say.
    :raises CorruptWeights: if the weights are not a whole safetensors file.
    """
    config = _json(contents[CONFIG], CONFIG)
    _json(contents[VOCABULARY], VOCABULARY)
    lacking = [k for k in ("generator", "generator_version", "conditions", "spec") if k not in config]
    if lacking:
        raise BadInput(f"{CONFIG} lacks {', '.join(lacking)}; it must name the generator that wrote it, and its spec.")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    attributes: dict[str, Any] = {
        "schema_version": int(config.get("schema_version", SCHEMA_VERSION)),
        "generator": str(config["generator"]),
        "generator_version": str(config["generator_version"]),
        "n_parameters": count_parameters(contents[WEIGHTS]),
        "conditions": [str(c) for c in config["conditions"]],
        "spec": dict(config["spec"]),
        "weights_hash": digests[WEIGHTS],
        "content_hash": json_hash(digests),
    }
    if attributes["schema_version"] > SCHEMA_VERSION:
        raise BadInput(
            f"{CONFIG} has schema {attributes['schema_version']}, but this crysgen-aiida reads up to {SCHEMA_VERSION}: "
            "run `pip install --upgrade crysgen-aiida`."
        )
    if config.get("seed") is not None:
        attributes["seed"] = int(config["seed"])
    loss = _last_val_loss(contents[HISTORY])
    if loss is not None:
        attributes["val_loss"] = loss
    return attributes


def read_history(content: bytes) -> list[dict[str, Any]]:
    """Return the records of a ``history.jsonl``, one a line.

    :raises BadInput: if a line is no JSON object, naming it.
    """
    lines = content.decode(errors="replace").splitlines()
    return [_json(line.encode(), f"{HISTORY} line {n}") for n, line in enumerate(lines, start=1) if line.strip()]


def count_parameters(content: bytes) -> int:
    """Return the number of parameters in a safetensors file, from its header alone.

    The points of a latent space are no parameters.

    :raises CorruptWeights: if the header is malformed or the file is shorter or longer than it says.
    """
    remedy = "copy or train it again."
    if len(content) < 8:
        raise CorruptWeights(f"{WEIGHTS} holds {len(content)} bytes, too few for a safetensors file; {remedy}")
    (size,) = struct.unpack("<Q", content[:8])
    try:
        if size > len(content) - 8:
            raise ValueError("its header is longer than the file")
        header = json.loads(content[8 : 8 + size])
        tensors = {k: v for k, v in header.items() if k != "__metadata__"}
        end = max((v["data_offsets"][1] for v in tensors.values()), default=0)
        if end != len(content) - 8 - size:
            raise ValueError(f"its header promises {end} bytes of numbers, {len(content) - 8 - size} are there")
        total = 0
        for name, tensor in tensors.items():
            n = 0 if name.startswith(PREFIX) else 1
            for length in tensor["shape"]:
                n *= int(length)
            total += n
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise CorruptWeights(f"{WEIGHTS} is not a whole safetensors file ({error}); {remedy}") from None
    return total


def _json(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise BadInput(f"{name} is not JSON ({error}); copy it again.") from None
    if not isinstance(value, dict):
        raise BadInput(f"{name} must hold a JSON object, not a {type(value).__name__}.")
    return value


def _last_val_loss(content: bytes) -> float | None:
    loss = None
    for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        record = _json(line.encode(), f"{HISTORY} line {number}")
        clock = sorted(_CLOCK_KEYS & set(record))
        if clock:
            raise BadInput(
                f"{HISTORY} line {number} holds {', '.join(clock)}: clock times and hosts make equal trainings "
                "differ and belong in result.json; leave them out."
            )
        value = record.get("val_loss")
        if isinstance(value, (int, float)) and value == value and abs(value) != float("inf"):
            loss = float(value)
    return loss
