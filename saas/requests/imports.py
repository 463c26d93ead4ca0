"""What every door knows of imports, without what reads files."""

from __future__ import annotations

from typing import Final

JOB: Final = "contacts.import"
UNSURE: Final = "unsure"  # stored instead of an encoding
