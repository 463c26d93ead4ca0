"""Fingerprints, which group failures of the same kind."""

from __future__ import annotations

import hashlib
import re
from typing import Final

# Values that differ between failures of the same kind, the longer forms first.
_QUOTED: Final = re.compile(r"(?<!\w)'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`|“[^“”\n]*”|«[^«»\n]*»")
_UUID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_HEX: Final = re.compile(r"\b(?:0x[0-9a-f]+|(?=[a-f]*[0-9])[0-9a-f]{8,})\b", re.IGNORECASE)
_DIGITS: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_LENGTH: Final = 16  # hexadecimal digits


def fingerprint(job: str, error_type: str, message: str, *, tenant_id: str) -> str:
    """Returns 16 hexadecimal digits that are equal for failures of the same kind.

    They are the start of the SHA-256 of job, error type and message. Quoted text, UUIDs, numbers,
    white space and the tenant's own id in `message` do not affect them.
    """
    bare = _QUOTED.sub("…", message)
    bare = re.sub(rf"(?<![\w-]){re.escape(tenant_id)}(?![\w-])", "…", bare)
    for pattern in (_UUID, _HEX, _DIGITS):
        bare = pattern.sub("…", bare)
    kind = "\n".join((job, error_type, " ".join(bare.split())))
    return hashlib.sha256(kind.encode("utf-8", "replace")).hexdigest()[:_LENGTH]
