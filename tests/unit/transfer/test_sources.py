"""Sources that are lent, used again, and asked ahead."""

from contextlib import contextmanager
from threading import Event

import pytest

from modelrunner.errors import RegistryUnavailableError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import BlobStream
from modelrunner.transfer.sources import SourcePool

REFERENCE = Reference.parse("ai/m:1")
BLOB = Descriptor("application/octet-stream", Digest.of(b"blob"), 4)


class Asked:
    """A source that writes down what happens to it."""

    name = "registry"

    def __init__(self, error=None):
        self.asked, self.open, self.closed = [], 0, Event()
        self.begun = Event()
        self._error = error

    @contextmanager
    def open_blob(self, reference, descriptor, offset=0, stop=None):
        self.asked.append((offset, stop))
        self.begun.set()
        if self._error is not None:
            raise self._error
        self.open += 1
        try:
            yield BlobStream(offset, len, f"from {offset} to {stop}")
        finally:
            self.open -= 1

    def distrust(self, places):
        self.distrusted = places

    def close(self):
        self.closed.set()


@pytest.fixture
def made():
    return []


@pytest.fixture
def pool(made):
    def open_source():
        made.append(Asked())
        return made[-1]

    return SourcePool(open_source)


def test_source_is_used_again_and_closed_with_the_pool(pool, made):
    with pool:
        pool.take().close()
        first, second = pool.take(), pool.take()
        assert len(made) == 2
        first.close()
    assert [source.closed.is_set() for source in made] == [True, False]
    second.close()
    assert made[1].closed.is_set()


def test_source_that_is_there_is_lent_first(made):
    there = Asked()
    with SourcePool(made.append, there) as pool, pool.take().open_blob(REFERENCE, BLOB, 2, 3):
        assert there.asked == [(2, 3)]
    assert made == []


def test_answer_to_a_request_ahead_is_for_whoever_asks_for_the_same(pool, made):
    with pool:
        pool.request_ahead(REFERENCE, BLOB, 3)
        assert made[0].begun.wait(10)
        asking = pool.take()
        with asking.open_blob(REFERENCE, BLOB, 0, 3) as stream:
            assert stream.place == "from 0 to 3"
            # the time until its answer is that of the request, not of whoever takes it
            assert stream.latency_s is not None
        with asking.open_blob(REFERENCE, BLOB, 0, 3) as stream:
            assert stream.latency_s is None
        asking.close()
    assert [source.asked for source in made] == [[(0, 3), (0, 3)], []]
    assert all(source.closed.is_set() and source.open == 0 for source in made)


@pytest.mark.parametrize("part", [(1, 3), (0, 2), (0, None)])
def test_other_part_than_was_requested_ahead_is_asked_for(pool, made, part):
    with pool:
        pool.request_ahead(REFERENCE, BLOB, 3)
        assert made[0].begun.wait(10)
        with pool.take().open_blob(REFERENCE, BLOB, *part):
            assert made[1].asked == [part]
    assert made[0].closed.wait(10)
    assert made[0].open == 0


def test_request_ahead_that_fails_fails_where_the_answer_is_needed(made):
    failing = [Asked(RegistryUnavailableError("gone")), Asked()]
    with SourcePool(iter(failing).__next__) as pool:
        pool.request_ahead(REFERENCE, BLOB, None)
        assert failing[0].begun.wait(10)
        asking = pool.take()
        with pytest.raises(RegistryUnavailableError), asking.open_blob(REFERENCE, BLOB):
            pass
        with asking.open_blob(REFERENCE, BLOB):
            assert failing[1].asked == [(0, None)]
    assert failing[0].closed.is_set()


def test_next_parts_are_requested_over_sources_that_are_free(pool, made):
    with pool:
        asking, free = pool.take(), pool.take()
        free.close()
        pool.request_next(REFERENCE, BLOB, (1, 3), {"mirror": 1})
        with asking.open_blob(REFERENCE, BLOB, 1, 3) as stream:
            assert stream.place == "from 1 to 3"
        asking.close()
    assert [source.asked for source in made] == [[], [(1, 3)]]
    assert made[1].distrusted == {"mirror": 1}
    assert all(source.closed.is_set() and source.open == 0 for source in made)


def test_no_more_than_four_parts_are_requested_ahead(pool, made):
    with pool:
        for number in range(1, 7):
            pool.request_next(REFERENCE, BLOB, (number, number + 1), {})
        asking = pool.take()
        for number in range(1, 5):
            with asking.open_blob(REFERENCE, BLOB, number, number + 1):
                pass
        asking.close()
    assert sorted(part for source in made for part in source.asked) == [
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
    ]


def test_next_part_that_is_refused_is_asked_for_by_who_reads_it_and_no_other_is_requested(made):
    sources = [Asked(), Asked(RegistryUnavailableError("too many connections"))]
    with SourcePool(iter(sources).__next__) as pool:
        asking = pool.take()
        pool.request_next(REFERENCE, BLOB, (1, 3), {})
        with asking.open_blob(REFERENCE, BLOB, 1, 3):
            pass
        pool.request_next(REFERENCE, BLOB, (3, 4), {})
        asking.close()
    assert [source.asked for source in sources] == [[(1, 3)], [(1, 3)]]
    assert all(source.closed.is_set() for source in sources)
