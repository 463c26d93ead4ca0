"""The search index has the words of addresses and names with punctuation."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

_PUNCTUATION: Final = "#&+-./:;<=>?@_~"
_BLANKS: Final = " " * len(_PUNCTUATION)


def upgrade() -> None:
    """Computes the words anew, which rewrites the table; searches wait for it."""
    title, body = (
        f"to_tsvector('simple', translate({column}, '{_PUNCTUATION}', '{_BLANKS}'))"
        for column in ("title", "body")
    )
    op.drop_column("search_documents", "words")
    op.add_column(
        "search_documents",
        sa.Column(
            "words",
            postgresql.TSVECTOR,
            sa.Computed(f"setweight({title}, 'A') || setweight({body}, 'B')", persisted=True),
            nullable=False,
        ),
    )
