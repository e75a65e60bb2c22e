"""Five hundred of the inputs of `make fuzz`: no other error than ours, no other client harmed."""

from __future__ import annotations

from tests.fuzz.fuzz import fuzz_readers, fuzz_service

SEED = 20_261_127
MOST_MIB = 1500.0
"""Far below what a worker may take: no input of some kilobytes costs a gigabyte."""


def test_the_readers_read_or_refuse() -> None:
    """450 damaged files before every reader: read, or refused by an error of ours with a remedy."""
    figures = fuzz_readers(range(450), seed=SEED)
    assert figures.faults == []
    assert figures.late == 0
    assert figures.peak_rss_mib["worker"] < MOST_MIB
    # Some must get through, or the mutations only ever break the first byte.
    assert figures.outcomes["pixels: read"] > 50
    assert figures.outcomes["header: unreadable_file"] > 50


def test_a_service_answers_in_problems_and_harms_nobody() -> None:
    """50 damaged bodies at a running service: problem documents, and a neighbour gets its plans."""
    figures = fuzz_service(range(450, 500), seed=SEED)
    assert figures.faults == []
    assert figures.outcomes["the neighbour's studies"] > 0
