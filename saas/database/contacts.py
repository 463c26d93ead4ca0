"""A tenant's contacts, and the imports that bring them."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from saas.database.checks import one_of
from saas.database.models import TenantData
from temporal_tenancy.postgres.tenant_owned import TenantOwned


class Contact(TenantOwned, TenantData):
    """Somebody whom a tenant knows. A tenant has one of each e-mail address."""

    __tablename__ = "contacts"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    email: Mapped[str]  # in lower case
    name: Mapped[str | None]
    phone: Mapped[str | None]
    company: Mapped[str | None]
    country: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    __table_args__ = (UniqueConstraint("tenant_id", "email"),)


class ImportStatus(StrEnum):
    """How far an import has come."""

    PROCESSING = "processing"  # from the moment its file has been taken
    COMPLETED = "completed"  # every row was imported or rejected
    FAILED = "failed"  # the file cannot be read to its end, or the job has failed
    CANCELLED = "cancelled"  # what was imported until then stays


class Import(TenantOwned, TenantData):
    """A file of contacts, and how far it has been read: written with each batch of its rows."""

    __tablename__ = "imports"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    file_name: Mapped[str]  # as who sent it calls it
    path: Mapped[str]  # in the object storage
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    encoding: Mapped[str]  # "unsure": it is not read
    dry_run: Mapped[bool]  # only counts what it would do
    started_by: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'processing'"))
    # Until then the file has been read: in bytes, and in lines.
    position: Mapped[int] = mapped_column(BigInteger)
    line: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # With a blank behind it where those before a quote are skipped. None, as the columns: the
    # header has not been read yet.
    delimiter: Mapped[str | None]
    columns: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    # Their sum is the number of rows that have been read.
    imported: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    rejected: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    error: Mapped[str | None]  # why it has failed, in a sentence
    error_type: Mapped[str | None]
    reading: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error_file: Mapped[str | None]  # of rejected rows, in the object storage
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[dt.datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("status", ImportStatus), name="status"),
        Index(None, "tenant_id", "created_at"),
    )

    @property
    def encoding_by(self) -> str | None:
        """Why it is read in its encoding, as `services.encodings.Because` has it."""
        because = self._reading.get("because")
        return because if isinstance(because, str) else None

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The encodings that it may be in, where that is unsure, each with a few of its lines."""
        found = self._reading.get("candidates")
        return found if isinstance(found, list) else []

    @property
    def _reading(self) -> dict[str, Any]:
        """A tenant's role may write there what it likes."""
        return self.reading if isinstance(self.reading, dict) else {}

    @property
    def rows(self) -> int:
        """How many rows have been read."""
        return self.imported + self.updated + self.rejected


def _of_import() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["tenant_id", "import_id"], ["imports.tenant_id", "imports.id"], ondelete="CASCADE"
    )


class RejectedRow(TenantOwned, TenantData):
    """A row that was not imported, until the import's error file has been written."""

    __tablename__ = "import_rejected_rows"

    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # from 1
    line: Mapped[int] = mapped_column(BigInteger)  # of the file, where it begins, from 1
    reason: Mapped[str]
    cells: Mapped[list[str]] = mapped_column(JSONB)

    __table_args__ = (_of_import(),)


class SeenEmail(TenantOwned, TenantData):
    """An address that a dry run has met, until it has ended: the next row with it is an update."""

    __tablename__ = "import_seen_emails"

    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(primary_key=True)

    __table_args__ = (_of_import(),)
