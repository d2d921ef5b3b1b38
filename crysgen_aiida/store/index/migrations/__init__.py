"""Alembic migrations of the index. ``HEAD`` is the version this program reads and writes."""

HEAD = "0001"

#: Every version there ever was, oldest first. What is not in it was written by a newer program.
VERSIONS = ("0001",)

VERSION_TABLE = "crysgen_alembic_version"
