"""The planner holds what is alive, lets go of what is not, and fills holes best first."""

from modelrunner.memory.plan.planner import ALIGNMENT, Graph

KIB = 256  # elements of four bytes


def test_a_chain_of_operations_holds_two_values_at_a_time():
    graph = Graph()
    value = graph.leaf(KIB)
    for _ in range(5):
        value = graph.new((KIB,), value)
    graph.expand(value)
    assert graph.peak() == 2 * 1024


def test_an_operation_in_place_needs_nothing_of_its_own():
    graph = Graph()
    value = graph.new((KIB,), graph.leaf(KIB))
    graph.expand(graph.same(graph.same(value)))
    assert graph.peak() == 2 * 1024


def test_a_value_that_somebody_else_reads_is_not_overwritten():
    graph = Graph()
    value = graph.new((KIB,), graph.leaf(8))
    graph.expand(graph.same(graph.same(value), value))
    assert graph.peak() == 32 + 2 * 1024


def test_the_memory_behind_a_view_is_not_overwritten():
    graph = Graph()
    value = graph.new((KIB,), graph.leaf(8))
    graph.expand(graph.same(graph.reshape(value, 16, 16)))
    assert graph.peak() == 32 + 2 * 1024


def test_a_pinned_value_stays_to_the_end():
    graph = Graph()
    first = graph.new((KIB,), graph.leaf(8))
    graph.pin(first)
    second = graph.new((KIB,), first)
    graph.expand(graph.new((KIB,), second))
    assert graph.peak() == 32 + 3 * 1024


def test_the_smallest_hole_that_holds_a_value_is_taken():
    graph = Graph()
    given = graph.leaf(8)
    large, small = graph.new((4 * KIB,), given), graph.new((KIB,), given)
    between = graph.new((KIB,), given)
    for value in (large, graph.new((1,), given), small, between):
        graph.expand(value)
    after_large = graph.expand(graph.new((2,), large))
    after_small = graph.expand(graph.new((2,), small))
    fits_small = graph.expand(graph.new((KIB,), given, after_large))
    graph.expand(graph.new((4 * KIB - 8,), after_small, fits_small))  # only the large hole is left
    assert graph.peak() == 32 + 4096 + 32 + 1024 + 1024 + 32


def test_sizes_are_rounded_up_to_the_alignment():
    graph = Graph()
    graph.expand(graph.new((1,), graph.leaf(1)))
    assert graph.peak() == 2 * ALIGNMENT


def test_what_is_stored_outside_takes_no_room():
    graph = Graph()
    value = graph.new((KIB,), graph.leaf(8))
    graph.expand(graph.store(graph.view(value, (KIB,))))
    assert graph.peak() == 32 + 1024
