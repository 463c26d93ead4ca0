"""Ids that the application makes for many rows at once: RFC 9562, version 7."""

from __future__ import annotations

import time
from uuid import UUID

from saas.database.new_ids import new_ids


def test_they_are_uuids_of_version_7_with_the_time_of_their_making_in_order() -> None:
    before = time.time_ns() // 1_000_000
    made = new_ids(5_000)
    after = time.time_ns() // 1_000_000
    ids = [UUID(each) for each in made]
    assert {(each.version, each.variant) for each in ids} == {(7, "specified in RFC 4122")}
    assert all(before <= each.int >> 80 <= after for each in ids)
    assert made == [str(each) for each in sorted(ids)]
    assert len(set(ids)) == 5_000


def test_every_other_bit_is_random() -> None:
    ids = [UUID(each).int for each in new_ids(1_000)]
    constant = sum(1 << bit for bit in range(80) if len({each >> bit & 1 for each in ids}) == 1)
    version_and_variant = 0b1111 << 76 | 0b11 << 62
    assert constant == version_and_variant


def test_none_are_made_of_none() -> None:
    assert new_ids(0) == []
