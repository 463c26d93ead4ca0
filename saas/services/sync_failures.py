"""Why a sync failed, in words for the tenant.

The failure's own message is for operators: it may name hosts, settings and classes.
"""

from __future__ import annotations

from typing import Final

NO_ANSWER: Final = "The partner did not answer."
_OURS: Final = "The sync failed on our side. Request it again later."
_STATUSES: Final = {
    400: "The partner did not understand the request. Check the URL.",
    401: "The partner refused the credential. Set a new one.",
    403: "The partner refused the credential. Check what it may read, or set a new one.",
    404: "The partner has nothing at this URL. Check it.",
    408: NO_ANSWER,
    410: "The partner has nothing at this URL any more. Check it.",
    429: "The partner takes no more requests at the moment. Request the sync later.",
    503: "The partner is not available at the moment. Request the sync later.",
}
_TYPES: Final = {
    "AddressRefused": "The URL does not lead to a public https:// address. Set another one.",
    "AnswerRefused": "The partner's answer was too large, or in a format that is not accepted.",
    "OutsideUnavailable": NO_ANSWER,
    "PartnerAnswerInvalid": "The partner's answer is not a page of records. Check the URL, or ask "
    "the partner.",
    "SecretMissing": "The integration's credential is missing. Set it again.",
    "TimeoutError": "The partner took too long to answer.",
}


def sync_failure(error_type: str | None, status: int | None) -> str:
    """Returns one or two sentences on the failure of a sync.

    Args:
        error_type: the failure's type, such as `AnswerRefused`.
        status: the status of the partner's response, if that is the reason.
    """
    if status is None:
        return _TYPES.get(error_type or "", _OURS)
    if status in _STATUSES:
        return _STATUSES[status]
    if 300 <= status < 400:
        return "The URL leads on to another one. Set the URL that it leads to."
    if status >= 500:
        return f"The partner answered with an error of its own ({status}). Request the sync later."
    return f"The partner refused the request ({status}). Check the URL and the credential."
