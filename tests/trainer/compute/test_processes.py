"""Batches shared out to devices and processes, and what a process among others is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from classifier.errors import InvalidSetting, Unavailable
from tests.support import photo_sets
from trainer.compute import processes, strategy
from trainer.compute.processes import Workers, read_workers
from trainer.data.generator import PhotoSequence
from trainer.data.source import PhotoSource
from trainer.networks.backbones import input_spec
from trainer.run.sections import ComputeConfig, NetworkConfig


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"), train=12)


@pytest.mark.parametrize(("count", "devices"), [(10, 2), (7, 2), (1, 4), (5, 3)])
def test_a_filled_up_batch_has_the_mean_of_its_photos(photos, count, devices):
    source = PhotoSource(sorted((photos / "images").glob("*/*.jpg"))[:count], input_spec(NetworkConfig(image_size=32)))
    targets = np.arange(count, dtype=np.int32)
    plain = PhotoSequence(source, np.arange(count), targets, batch_size=32, shuffle=False)
    images, truth, weights = strategy.EvenBatches(plain, devices)[0]
    assert len(images) == len(truth) == len(weights)
    assert len(images) % devices == 0
    assert len(images) - count < devices
    assert np.array_equal(images[:count], plain[0][0])
    assert (weights[count:] == 0).all()
    assert float((truth * weights).mean()) == pytest.approx(targets.mean())
    unlabelled = PhotoSequence(source, np.arange(count), None, batch_size=32, shuffle=False)
    assert np.array_equal(strategy.EvenBatches(unlabelled, devices)[0], images)


def test_a_lost_process_is_one_line_and_other_errors_stay_what_they_are():
    place = Workers(1, 2)
    with (
        pytest.raises(Unavailable, match=r"Process 1 of 2 has lost another one.*the training goes on\."),
        place.together(),
    ):
        raise ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
    with pytest.raises(ValueError, match="shapes"), place.together():
        raise ValueError("shapes do not fit")


@pytest.mark.parametrize(("count", "processes"), [(10, 2), (7, 2), (5, 3)])
def test_each_process_reads_its_own_share_of_a_batch(photos, count, processes):
    paths = sorted((photos / "images").glob("*/*.jpg"))[:count]
    targets = np.eye(count, dtype=np.float32)
    devices, read = 2 * processes, []

    class Watched(PhotoSource):
        def array(self, row):
            read[-1].add(row)
            return super().array(row)

    source = Watched(paths, input_spec(NetworkConfig(image_size=32)))
    plain = PhotoSequence(source, np.arange(count), targets, batch_size=count, seed=3, mixup=0.0)
    read.append(set())
    whole = strategy.EvenBatches(plain, devices)[0]
    shares = []
    for number in range(processes):
        read.append(set())
        shares.append(strategy.EvenBatches(plain, devices, Workers(number, processes))[0])
    for part, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert len({len(each) for each in parts}) == 1
        assert np.array_equal(np.concatenate(parts), part)
    assert max(map(len, read[1:])) <= len(whole[0]) // processes


def test_the_place_among_the_processes_comes_from_keras_settings(monkeypatch):
    settings = dict(zip(processes.SETTINGS, ("10.0.0.5:8476", "3", "2"), strict=True))
    assert read_workers(settings) == Workers(2, 3)
    assert not read_workers(settings).chief
    for change, message in (
        ({"KERAS_DISTRIBUTION_PROCESS_ID": ""}, "expects KERAS_DISTRIBUTION_PROCESS_ID in the environment"),
        ({"KERAS_DISTRIBUTION_PROCESS_ID": "3"}, "PROCESS_ID from 0 to 2; received '3'"),
        ({"KERAS_DISTRIBUTION_NUM_PROCESSES": "1"}, "NUM_PROCESSES to be 2 or more; received '1'"),
        ({"KERAS_DISTRIBUTION_JOB_ADDRESSES": "10.0.0.5"}, "such as 10.0.0.5:8476; received '10.0.0.5'"),
        ({"KERAS_DISTRIBUTION_JOB_ADDRESSES": "a:1,b:2"}, "Expected one address or 3"),
    ):
        with pytest.raises(InvalidSetting, match=message):
            read_workers({**settings, **change})
    # TensorFlow cannot: Keras 3 does not fit a model under its strategy for several workers.
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=r"needs KERAS_BACKEND=jax; received tensorflow: .*MultiWorkerMirrored"):
        strategy.configure(ComputeConfig(distribution="multi-worker"))
