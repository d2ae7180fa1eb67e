"""Power cuts at every moment of every command: what was there stays, what was promised is there.

What a disk has after one is played, see `cuts`. After it the store is whole and no model is lost;
the same command run again does what it would have done. After its end, exit code 0 holds: what the
command was to bring about is there, even if nothing comes to the disk that was not flushed.
"""

import random
import sys
from dataclasses import dataclass

import pytest

from tests.faults.conftest import Place, Worlds
from tests.support.faults import size
from tests.support.faults.calls import noted
from tests.support.faults.cuts import Cut, Disk, cuts, parse
from tests.support.faults.world import Look, Scenario, scenarios

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


PROMISES = (
    *("pull", "pull many files", "pull to a folder", "package into a new store", "lock anew"),
    *("log in", "export"),
)
"""Each writes in a way of its own: tried whenever there are tests."""


@dataclass(frozen=True)
class Recording:
    """What a command did, and what there was after it."""

    scenario: Scenario
    disk: Disk
    right: Look
    events: int


def test_no_power_cut_does_any_harm(places: Worlds[Place]) -> None:
    chance = random.Random(size.SEED)
    cases = []
    every = scenarios(places.all[0].world.registry)
    promises = [scenario for scenario in every if scenario.name in PROMISES]
    others = [scenario for scenario in every if scenario.name not in PROMISES]
    for scenario in (*promises, *size.some(others, chance)[: None if size.SIZE else 5]):
        course = _course(places.all[0], scenario)
        moments = list(cuts(course.events, chance))
        last = [cut for cut in moments if cut.at == course.events and cut.loss == "all"]
        cases += [(course, cut) for cut in size.sample(moments, chance, least=1, part=0.08)]
        cases += [(course, cut) for cut in last]
    chance.shuffle(cases)
    sys.stderr.write(f"{len(cases)} cases\n")
    found = places.each(_wrongs, cases)
    assert not found, "\n".join([f"{len(found)} of {len(cases)} cases:", *sorted(found)])


def _course(place: Place, scenario: Scenario) -> Recording:
    """A command that nothing befalls; and what is played is what there was."""
    world = place.world
    kept = place.begin(scenario)
    done = world.do(scenario, noted(world.place, place.log, with_data=True))
    assert done.code == 0, (scenario, done)
    right = world.look()
    events = parse(place.log)
    disk = Disk(world.place, kept, events)
    disk.write(Cut(len(events), "journal", "none", 0), world.place)
    assert world.look().differences(right) == [], scenario
    return Recording(scenario, disk, right, len(events))


def _wrongs(place: Place, case: tuple[Recording, Cut]) -> list[str]:
    course, cut = case
    world, scenario = place.world, course.scenario
    place.begin(scenario)
    before = world.names()
    course.disk.write(cut, world.place)
    wrong = world.harm(scenario, before)
    if cut.at == course.events and scenario.lasts:
        # exit code 0 was seen, and then the lights went out
        wrong += world.look().differences(course.right)
        course.disk.write(cut, world.place)
    again = world.do(scenario)
    if again.code not in scenario.again:
        wrong.append(f"fails again: {again}")
    wrong += world.look().differences(course.right)
    return [f"{scenario.name}: {cut}: {what}" for what in wrong]
