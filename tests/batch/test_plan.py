"""What is left to do: listed and not labelled, in an order that is as good as random, without holding it in memory."""

from __future__ import annotations

import subprocess
import sys

from batch.listing import Photo
from batch.plan import Plan, place
from tests.support.processes import environment


def photos(count: int, generation: int = 1) -> list[Photo]:
    return [Photo(f"gs://b/{number:05}.jpg", generation, 10) for number in range(count)]


def test_what_is_labelled_with_this_generation_is_left_out() -> None:
    with Plan() as plan:
        assert plan.list([*photos(4), photos(1)[0]]) == 1  # one was named twice
        plan.labelled([("gs://b/00000.jpg", 1), ("gs://b/00001.jpg", 9), ("gs://b/gone.jpg", 1), ("gs://c/x.jpg", 1)])
        assert (plan.listed, plan.count_todo()) == (4, 3)
        assert sorted(photo.path for photo in plan.todo()) == [f"gs://b/0000{number}.jpg" for number in (1, 2, 3)]
        assert list(plan.changed()) == ["gs://b/00001.jpg"]
        assert list(plan.deleted(lambda path: path.startswith("gs://b/"))) == ["gs://b/gone.jpg"]


def test_one_that_was_labelled_again_after_a_change_is_told_no_more() -> None:
    with Plan() as plan:
        plan.list(photos(1, generation=2))
        plan.labelled([("gs://b/00000.jpg", 1), ("gs://b/00000.jpg", 2)])
        assert plan.count_todo() == 0 and list(plan.changed()) == []


def test_a_sample_is_the_same_each_time_and_a_part_of_all() -> None:
    with Plan() as plan:
        plan.list(photos(1000))
        whole = list(plan.todo())
        plan.sample(100)
        sample = list(plan.todo())
        assert sample == whole[:100] == sorted(whole, key=lambda photo: place(photo.path))[:100]
        assert (plan.listed, plan.count_todo()) == (100, 100)
        plan.labelled((photo.path, 1) for photo in sample[:40])
        assert list(plan.todo()) == sample[40:]
        assert plan.has(sample[0].path, 1) and not plan.has(sample[0].path, 2) and not plan.has(whole[100].path, 1)
    numbers = [int(photo.path[7:12]) for photo in sample]
    assert 350 < sum(numbers) / 100 < 650  # of 0 to 999, and not of their beginning


def test_names_that_are_no_text_come_back_as_they_were() -> None:
    with Plan() as plan:
        plan.list([Photo("/p/\\xff.jpg", 1, 2, "/p/\udcff.jpg")])
        assert list(plan.todo()) == [Photo("/p/\\xff.jpg", 1, 2, "/p/\udcff.jpg")]


MEMORY = """
import sys
from batch.listing import Photo
from batch.plan import Plan
from pathlib import Path
def peak():  # not ru_maxrss, which begins with that of whoever started this process
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
def photos(count):
    return (Photo(f"gs://photos/a/name/that/is/long/{number:09}.jpg", 10**15, 10**5) for number in range(count))
with Plan() as plan:
    count = int(sys.argv[1])
    plan.list(photos(count))
    plan.labelled((photo.path, photo.generation) for photo in photos(count // 2))
    assert sum(1 for _ in plan.todo()) == count - count // 2
print(peak())
"""


def test_memory_does_not_grow_with_the_number_of_photos() -> None:
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", MEMORY, str(count)], env=environment()))
        for count in (1000, 200_000)
    )
    assert many - few < 12_000  # KiB; the names alone have 8 MB, as Python holds them 20
