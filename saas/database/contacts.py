"""Tables of a tenant's contacts and of their imports."""

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
from temporal_tenancy import TenantOwned


class Contact(TenantOwned, TenantData):
    """A person whom a tenant knows; each e-mail address occurs once per tenant."""

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
    """The state of an import."""

    PROCESSING = "processing"  # from the moment the file was accepted
    COMPLETED = "completed"  # every row was imported or rejected
    FAILED = "failed"  # the file cannot be read to its end, or the job failed
    CANCELLED = "cancelled"  # the rows imported so far stay


class Import(TenantOwned, TenantData):
    """A file of contacts and the progress of its import, which each batch of rows updates."""

    __tablename__ = "imports"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    file_name: Mapped[str]  # the sender's name for it
    path: Mapped[str]  # in the object storage
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    encoding: Mapped[str]  # "unsure": the file is not imported
    dry_run: Mapped[bool]  # only counts what it would do, and changes no contacts
    started_by: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'processing'"))
    # How far the file has been read, in bytes and in lines.
    position: Mapped[int] = mapped_column(BigInteger)
    line: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # Followed by a space if spaces before a quote are skipped. This and `columns` are None until
    # the header has been read.
    delimiter: Mapped[str | None]
    columns: Mapped[list[str] | None] = mapped_column(JSONB(none_as_null=True))
    # Their sum is the number of rows read.
    imported: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    rejected: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    error: Mapped[str | None]  # why it failed, as a sentence
    error_type: Mapped[str | None]
    reading: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error_file: Mapped[str | None]  # path of the rejected rows in the object storage
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[dt.datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("status", ImportStatus), name="status"),
        Index(None, "tenant_id", "created_at"),
    )

    @property
    def encoding_by(self) -> str | None:
        """Why this encoding was chosen, a value of `services.encodings.Because`."""
        because = self._reading.get("because")
        return because if isinstance(because, str) else None

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The possible encodings if that is unsure, each with a few sample lines."""
        found = self._reading.get("candidates")
        return found if isinstance(found, list) else []

    @property
    def _reading(self) -> dict[str, Any]:
        """`reading` if it has the right shape: the tenant role may write anything there."""
        return self.reading if isinstance(self.reading, dict) else {}

    @property
    def rows(self) -> int:
        """The number of rows read."""
        return self.imported + self.updated + self.rejected


def _of_import() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["tenant_id", "import_id"], ["imports.tenant_id", "imports.id"], ondelete="CASCADE"
    )


class RejectedRow(TenantOwned, TenantData):
    """A row that was not imported, kept until the import's error file has been written."""

    __tablename__ = "import_rejected_rows"

    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # from 1
    line: Mapped[int] = mapped_column(BigInteger)  # the file's line where the row begins, from 1
    reason: Mapped[str]
    cells: Mapped[list[str]] = mapped_column(JSONB)

    __table_args__ = (_of_import(),)


class SeenEmail(TenantOwned, TenantData):
    """An address that a dry run has seen, so that the next row with it counts as an update."""

    __tablename__ = "import_seen_emails"

    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(primary_key=True)

    __table_args__ = (_of_import(),)
