"""How the soak judges whether a figure stays the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from tests.system.faults.steadiness import (
    CONNECTIONS,
    HANDLES,
    KB_A_RUN,
    MEMORY,
    RUNS,
    THREADS,
    TO_ITSELF,
    Samples,
    Series,
    connections_of,
    slope,
    to_itself,
)

CLIENT = """
import socket, sys
connections = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(2)]
print("connected", flush=True)
sys.stdin.read()
"""


def series(unit: str, *values: float) -> Series:
    times = [5.0 * number for number in range(len(values))]
    return Series(unit, times=times, values=list(values))


def test_the_slope_is_the_lines_and_one_wild_sample_does_not_move_it() -> None:
    assert slope([0, 1, 2, 3, 4], [10, 12, 14, 16, 18]) == 2
    assert slope([0, 1, 2, 3, 4], [10, 10, 900, 10, 10]) == 0
    assert slope([7], [1]) == 0


@pytest.mark.parametrize(
    ("unit", "values", "flat"),
    [
        ("memory MB", [300 + number for number in range(29)], True),  # 28 of a median of 314
        ("memory MB", [300 + 2 * number for number in range(29)], False),
        ("memory MB", [400 - 5 * number for number in range(29)], True),  # it falls
        ("memory MB", [300, 380] * 20, True),  # it goes up and down
        ("threads", [20, 20, 20, 21, 21], True),
        ("threads", [20, 21, 22, 23, 24], False),
        ("handles", [10, 12, 14, 16, 18], False),
        ("connections", [30, 30, 31, 31, 32], True),
    ],
)
def test_a_figure_is_flat_unless_it_rises_by_a_tenth(
    unit: str, values: list[float], flat: bool
) -> None:
    assert series(unit, *values).is_flat is flat


def test_what_comes_before_the_warm_up_is_left_out() -> None:
    samples = Samples({("worker", "threads"): series("threads", 1, 5, 9, 30, 30, 30)})
    assert samples.rising(0)
    assert samples.rising(15) == []


def test_a_process_is_sampled_with_what_it_holds() -> None:
    samples = Samples()
    samples.look_at("this", os.getpid())
    assert {unit for _, unit in samples.series} == {"memory MB", "threads", "handles"}
    assert all(found.values[0] > 0 for found in samples.series.values())


def test_a_server_is_judged_by_what_it_holds_for_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        before = to_itself(connections_of(psutil.Process()))
        own = socket.create_connection(("127.0.0.1", port))
        held, _ = listener.accept()
        command = [sys.executable, "-c", CLIENT, str(port)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "connected\n"
            accepted = [listener.accept()[0] for _ in range(2)]
            samples = Samples()
            samples.look_at_server("server", os.getpid(), port)
            samples.look_at("client", client.pid, port)
            client.communicate()
        handles = psutil.Process().num_fds()
        for each in (own, held, *accepted):
            each.close()
    values = {key: found.values[-1] for key, found in samples.series.items()}
    assert values["server", CONNECTIONS] == 2
    assert values["client", CONNECTIONS] == 2
    assert values["server", TO_ITSELF] == before + 2
    # Its own connection does not count; the pipes of the other process are closed by now.
    assert values["server", HANDLES] == handles - before - 2 + 2


@pytest.mark.parametrize(("kb", "flat"), [(KB_A_RUN / 2, True), (KB_A_RUN * 2, False)])
def test_a_servers_memory_may_rise_with_the_runs_and_no_more(kb: float, flat: bool) -> None:
    runs = [100.0 * number for number in range(30)]
    memory = [300 + count * kb / 1e3 for count in runs]
    samples = Samples(
        {
            ("server", RUNS): series(RUNS, *runs),
            ("server", MEMORY): series(MEMORY, *memory),
            ("worker", MEMORY): series(MEMORY, *[300.0] * 30),
        }
    )
    assert samples.allow_for_runs(0) == {"server": kb}
    assert (samples.rising(0) == []) is flat


def test_connections_from_others_and_other_handles_must_stay_the_same() -> None:
    rising = [20 + 2 * number for number in range(10)]
    for unit in (CONNECTIONS, HANDLES, THREADS):
        assert Samples({("server", unit): series(unit, *rising)}).rising(0)
    samples = Samples({("server", TO_ITSELF): series(TO_ITSELF, *rising)})
    assert samples.rising(0) == []
    assert samples.table(0)[1].endswith("  -")
