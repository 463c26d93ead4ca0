"""The mutants of TLS: faults in what is refused, and in what is said of a server's refusal."""

from __future__ import annotations

import re
from typing import Final

from temporalio.envconfig import ClientConnectConfig

from temporal_tenancy.cli import _temporal_config as config
from temporal_tenancy.cli import _temporal_refusals as refusals
from tests.mutants.mutant import Mutant, replace

TLS: Final = "tests/system/cli/test_tls.py"
_SAID: Final = f"{TLS}::test_what_is_wrong_is_said_in_one_sentence_that_names_the_setting"
_BEFORE: Final = f"{TLS}::test_settings_that_cannot_be_used_are_refused_before_a_connection"


def _say_nothing() -> None:
    replace(refusals, "_REASONS", ())


def _take_a_key_for_none() -> None:
    plain = refusals._settings

    def without_key(found: ClientConnectConfig) -> refusals._Settings:
        known = plain(found)
        return refusals._Settings(known.tls, known.client_certificate, api_key=False)

    replace(refusals, "_settings", without_key)


def _take_any_key() -> None:
    replace(config, "_KEY", re.compile(".*", re.DOTALL))


TLS_FAULTS: Final = [
    Mutant(
        "tls-unexplained",
        "a certificate that does not fit is an error of the SDK's core",
        (_SAID,),
        seed=_say_nothing,
    ),
    Mutant(
        "wrong-key-told-as-none",
        "a wrong API key is said to be missing",
        (_SAID,),
        seed=_take_a_key_for_none,
    ),
    Mutant(
        "any-api-key",
        "an API key with a line break reaches the header",
        (_BEFORE,),
        seed=_take_any_key,
    ),
]
