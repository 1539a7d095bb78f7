"""The command label: list, compare with what is there, label the rest, and say what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from batch import chunks
from batch.job import Job
from batch.listing import listing
from batch.output import Output
from batch.plan import Plan
from batch.summary import summarise
from classifier.errors import InvalidRequest, NotFound, Unavailable
from classifier.storage.names import bucket_of
from classifier.wording import plural

Tell = Callable[..., None]
"""Gets the name of an event, and its facts by name."""
SHOWN = 5
"""Paths that are told of those that were deleted, changed or could not be fetched."""
LOCAL_RUNNERS = ("local",)


def label(job: Job, how: Mapping[str, Any], given: Sequence[str], tell: Tell) -> None:
    """Label what is not labelled yet.

    Args:
        job: what decides what a row says.
        how: "runner", "workers" (processes of a local run), "sample" (0 for all), "against" (a version, or ""),
            "candidates" (how many, or 0) and "candidates_to" (a folder).
        given: Beam's own options.
        tell: gets what happens.

    Raises:
        NotFound: there are no photos.
        InvalidRequest: workers elsewhere could not reach what is here.
        Refused: rows of other options are there.
        Unavailable: photos could not be fetched; they are tried again next time.
    """
    if how["runner"] not in LOCAL_RUNNERS:
        _expect_reachable(job, how["runner"], given)
    output = Output(job.out)
    output.mark(job)
    with Plan() as plan:
        began = time.monotonic()
        found = listing(job.photos, job.billing_project)
        twice = plan.list(found.photos)
        plan.labelled(output.rows(job.version, ("path", "generation")))
        changed, deleted = list(plan.changed()), _first(plan.deleted(found.covers))
        if how["sample"]:
            plan.sample(how["sample"])
        todo = plan.count_todo()
        if not plan.listed:
            raise NotFound(
                f"Expected photos at {job.photos}; found none"
                + (f", and {plural(found.others, 'file')} with other names than photos have." if found.others else ".")
            )
        tell(
            "listed",
            listed=plan.listed, todo=todo, folders=found.folders, others=found.others, twice=twice,
            missing=found.missing, gone=found.gone, changed=len(changed), changed_paths=changed[:SHOWN],
            deleted=deleted[0], deleted_paths=deleted[1], seconds=round(time.monotonic() - began, 2),
        )  # fmt: skip
        failed: dict[str, str] = {}
        if todo:
            output.take_failed(job.version)  # of a run before this one: they are tried again now
            size = chunks.size_for(todo, how["workers"], overlays=job.gradcam)
            parts = chunks.write(output, job, plan.todo(), size)
            from batch import running  # Beam takes seconds to import: who has nothing to do need not wait for it

            running.run(job, parts, running.options_for(how["runner"], how["workers"], given), tell)
            failed = output.take_failed(job.version)
        if not how["sample"] and not failed:
            output.forget_plans(job.version)
        against = how["against"] or next((each for each in reversed(output.versions()) if each != job.version), "")
        if how["candidates"]:
            from batch.candidates import choose

            choose(
                job, output, plan, count=how["candidates"], folder=Path(how["candidates_to"]), against=against,
                workers=how["workers"], tell=tell,
            )  # fmt: skip
        tell("finished", failed=len(failed), failed_paths=dict(islice(failed.items(), SHOWN)),
             **summarise(output, plan, job.version, against if how["sample"] or how["against"] else ""))  # fmt: skip
    if failed:
        path, why = next(iter(failed.items()))
        raise Unavailable(
            f"{plural(len(failed), 'photo')} could not be fetched, such as {path}: {why} They have no rows: the same "
            "command tries them again."
        )


def _first(paths: Any) -> tuple[int, list[str]]:
    """Count paths, and keep the first."""
    first = list(islice(paths, SHOWN))
    return len(first) + sum(1 for _ in paths), first


def _expect_reachable(job: Job, runner: str, given: Sequence[str]) -> None:
    if any(each.replace("=", " ").split()[-1].upper() == "LOOPBACK" for each in given if "environment_type" in each):
        return  # workers are processes here
    for option, value in (("--store", job.store), ("--out", job.out), ("the photos", job.photos)):
        if bucket_of(value.partition("*")[0].rstrip("/") if value.startswith("gs://") else value) is None:
            raise InvalidRequest(
                f"Expected {option} as gs://bucket/… with --runner {runner}, whose workers are other machines; "
                f"received {value}."
            )
