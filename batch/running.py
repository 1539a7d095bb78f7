"""Runs a pipeline on whatever runner was asked for, and tells how far it is by the files that are there."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from batch.chunks import Chunk
from batch.job import Job
from batch.output import Output
from batch.pipeline import pipeline
from classifier import errors
from classifier.errors import PointerError, Unavailable
from classifier.storage.names import bucket_of

LOCAL = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Beam's in-process runner by its whole name: `DirectRunner` may choose Prism, which downloads a program."""
WORKER = "run_worker"
"""What that runner calls the thread that waits for a worker process."""
LOOK_HERE, LOOK_THERE = 0.5, 10.0
"""Seconds between two looks at the files, in a folder and in a bucket."""
_EXPECTED = re.compile(r"classifier\.errors\.(\w+): ([^\n]+)")


def options_for(runner: str, processes: int, given: Sequence[str]) -> PipelineOptions:
    """Return Beam's options: those that were given, as they are, and for a local run how many processes.

    Args:
        runner: "local", or a runner's name as Beam has it.
        processes: of a local run.
        given: whatever stood behind ``--``.
    """
    if runner != "local":
        return PipelineOptions([f"--runner={runner}", *given])
    how = ["--direct_running_mode=multi_processing"] if processes > 1 else ["--direct_running_mode=in_memory"]
    return PipelineOptions([f"--runner={LOCAL}", f"--direct_num_workers={processes}", *how, *given])


def run(job: Job, chunks: Sequence[Chunk], options: PipelineOptions, tell: Callable[..., None]) -> dict[str, int]:
    """Label the photos of a plan, and return Beam's counts of them by status.

    Raises:
        PointerError: what a worker raised; whatever was written stays.
    """
    found: list[Any] = []
    failed: list[BaseException] = []

    def worker_ended(ended: threading.ExceptHookArgs) -> None:
        """Hear of a local worker that died: its runner would wait for it for ever."""
        if ended.thread is not None and ended.thread.name == WORKER:
            failed.append(
                Unavailable(
                    f"A worker process died ({ended.exc_value}): its machine may have too little memory for "
                    "--workers and --threads. What was labelled is there: the same command goes on."
                )
            )
        else:
            threading.__excepthook__(ended)

    def work() -> None:
        try:
            result = pipeline(job, chunks, options).run()
            found.append(result)
            result.wait_until_finish()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failed.append(error)

    threading.excepthook = worker_ended
    thread = threading.Thread(target=work, name="pipeline", daemon=True)
    thread.start()
    _watch(job, chunks, lambda seconds: _ended(thread, failed, seconds), tell)
    if failed:
        raise _in_words(failed[0]) from failed[0]
    state = str(found[0].state)
    if state != "DONE":
        raise Unavailable(
            f"Expected the job to end well; {options.view_as(StandardOptions).runner} says that it is {state}. What it "
            "labelled is there: the same command goes on."
        )
    return {
        counter.key.metric.name: int(counter.result)
        for counter in found[0].metrics().query()["counters"]
        if counter.key.metric.namespace == "pointer" and counter.result is not None
    }


def _ended(thread: threading.Thread, failed: Sequence[BaseException], seconds: float) -> bool:
    thread.join(seconds)
    return not thread.is_alive() or bool(failed)


def _watch(job: Job, chunks: Sequence[Chunk], ended: Callable[[float], bool], tell: Callable[..., None]) -> None:
    """Tell how many photos are labelled, until the job has ended."""
    output, count = Output(job.out), dict(chunks)
    every = LOOK_THERE if bucket_of(job.out) else LOOK_HERE
    told, began = -1, time.monotonic()
    over = False
    while not over:
        over = ended(every)
        done = sum(count[shard] for shard in output.ids(job.version) if shard in count)
        if done != told or over:
            tell("progress", done=done, seconds=round(time.monotonic() - began, 2))
            told = done


def _in_words(error: BaseException) -> BaseException:
    """Return the error that a worker raised: a runner tells it as the text of a traceback."""
    if isinstance(error, PointerError):
        return error
    found = list(_EXPECTED.finditer(str(error)))
    if not found:
        return error
    kind = getattr(errors, found[-1][1], PointerError)
    message = re.sub(r" \[while running .*$", "", found[-1][2])
    try:
        made = kind(message)
    except TypeError:
        made = PointerError(message)
    return made if isinstance(made, PointerError) else PointerError(message)
