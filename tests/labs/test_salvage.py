"""What becomes of a chunk that no engine has run to its end."""

from concurrent.futures import Future

import pytest

from labkit.batch import Batch
from labkit.engine.messages import Chunk, Stop
from labkit.labs.salvage import Salvage
from labkit.labs.traffic import Sent
from labkit.outcome import failure

RETRIES = 2


@pytest.fixture
def chunk():
    return Chunk("name", "sweep", 100, b"", {}, [(f"key{x}", {"x": x}) for x in range(10)])


@pytest.fixture
def finished():
    """The runs of the first three points."""
    outcome = failure({"x": 0}, ValueError("fails"))
    return [Batch.of("sweep", [(100, [outcome]), (101, [outcome]), (102, [outcome])], {})]


def sent(chunk, recorded=0):
    return Sent(chunk, Future(), recorded)


def numbers(sequel):
    """Return first and last number, and attempt, of what is sent again."""
    return [(c.first, c.stop - 1, c.attempt) for c in sequel.again if c.points]


def given_up(sequel):
    return [(batch.numbers, batch.facts["labkit.attempt"]) for batch in sequel.runs[1:]]


def test_the_point_that_ran_is_tried_again_alone(chunk, finished):
    sequel = Salvage().after_stop(sent(chunk), Stop("died", "died, signal 9", 5), finished, RETRIES)
    assert numbers(sequel) == [(105, 105, 2), (103, 104, 1), (106, 109, 1)]
    assert sequel.runs == finished


def test_it_is_given_up_after_its_retries(chunk, finished):
    tried = chunk.part(0, 10, attempt=RETRIES + 1)
    sequel = Salvage().after_stop(sent(tried), Stop("died", "died, signal 9", 5), finished, RETRIES)
    assert numbers(sequel) == [(103, 104, 1), (106, 109, 1)]
    assert given_up(sequel) == [([105], 3)]


def test_a_point_whose_time_is_over_is_not_tried_again(chunk, finished):
    sequel = Salvage().after_stop(sent(chunk), Stop("timeout", "1 s", 3), finished, RETRIES)
    assert numbers(sequel) == [(104, 109, 1)]
    assert given_up(sequel) == [([103], 1)]


@pytest.mark.parametrize("finds_spools", [True, False])
def test_where_nobody_knows_which_point_ran(chunk, finished, finds_spools):
    salvage = Salvage()
    salvage.finds_spools = finds_spools
    sequel = salvage.after_stop(
        sent(chunk), Stop("died", "died, signal 9", None), finished, RETRIES
    )
    alone = [(n, n, 1) for n in range(103, 110)]
    assert numbers(sequel) == ([(103, 109, 1)] if finds_spools else alone)


def test_what_was_interrupted_may_be_cancelled(chunk, finished):
    sequel = Salvage().after_stop(sent(chunk), Stop("interrupted", "", None), finished, RETRIES)
    assert numbers(sequel) == [(103, 109, 1)]
    assert sequel.may_be_cancelled


def test_outcomes_that_a_disk_has_lost_are_made_again_so_many_times(chunk, finished):
    sequel = Salvage().after_damage(sent(chunk), finished, RETRIES)
    assert numbers(sequel) == [(103, 109, 2)]
    assert sequel.may_be_cancelled
    sequel = Salvage().after_damage(sent(chunk.part(0, 10, RETRIES + 1)), finished, RETRIES)
    assert numbers(sequel) == []
    assert given_up(sequel) == [([n], 3) for n in range(103, 110)]


def test_what_was_recorded_while_the_chunk_ran_does_not_run_again(chunk, finished):
    died = Stop("died", "died, signal 9", 8)
    sequel = Salvage().after_stop(sent(chunk, recorded=4), died, finished, RETRIES)
    assert numbers(sequel) == [(108, 108, 2), (107, 107, 1), (109, 109, 1)]
    sequel = Salvage().after_damage(sent(chunk, recorded=4), finished, RETRIES)
    assert numbers(sequel) == [(107, 109, 2)]
