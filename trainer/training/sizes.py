"""How large photos are in each epoch of fine-tuning: small first, and whole at the end, where asked for.

Small photos are quicker, and what is learnt from them is nearly all there is to learn (progressive resizing: Howard
2018, Tan and Le 2021). A network that is trained on crops sees things larger than it does when it serves: the last
epochs at the size that is served mend that (FixRes: Touvron et al. 2019).
"""

from __future__ import annotations

import math
from itertools import groupby

from classifier.errors import InvalidRequest
from trainer.run.sections import ScheduleConfig

STEP = 32
"""Pixels: the sides between are multiples of it, so that every backbone halves them evenly."""
FULL_SIZE_SHARE = 1 / 3
"""Of the epochs, at the end, unless told."""


def sides(schedule: ScheduleConfig, epochs: int, side: int) -> list[int]:
    """Return the side of the photos in each epoch, in pixels.

    Args:
        schedule: what is asked for.
        epochs: how many there are at most.
        side: of the network's input.

    Raises:
        InvalidRequest: photos are to be as large as that at first, or of a side that cannot be halved evenly.
    """
    first = schedule.first_image_size
    if first is None:
        return [side] * epochs
    if first >= side:
        raise InvalidRequest(f"Expected --first-image-size to be below the image size of {side}; received {first}.")
    if first % STEP:
        raise InvalidRequest(f"Expected --first-image-size to be a multiple of {STEP}; received {first}.")
    asked = schedule.full_size_epochs
    small = max(0, epochs - (math.ceil(epochs * FULL_SIZE_SHARE) if asked is None else asked))
    if schedule.image_size_schedule == "constant":
        growing = [first] * small
    else:
        growing = [max(first, int(first + (side - first) * each / small) // STEP * STEP) for each in range(small)]
    return growing + [side] * (epochs - small)


def stretches(sides: list[int]) -> list[tuple[int, int]]:
    """Return each side with the epoch before which it ends, counted from 0, in order."""
    found, end = [], 0
    for side, epochs in groupby(sides):
        end += len(list(epochs))
        found.append((side, end))
    return found
