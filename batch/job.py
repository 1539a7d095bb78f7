"""One job: everything that decides what a row says, fixed at the start and sent to every worker as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from classifier.registry.channels import Pointer
from classifier.serving.query import OCCLUSION, TOP_LABEL, Query, Tta
from classifier.settings import Settings
from classifier.storage.names import check_model_name

FOREVER = 3600.0
"""Seconds that a thread of a worker waits for an interpreter or for memory: nobody else waits for its photo."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is labelled, by what, and where the rows go. Made of the JSON that `admin_cli label` sends."""

    photos: str
    """Where the photos are; see `batch.listing.listing`."""
    out: str
    """``gs://bucket/prefix`` or a folder."""
    store: str
    model: str
    version: str
    manifest_sha256: str
    """Of the version when the job began: what workers load is compared with it."""
    top_k: int = 5
    tta: Tta = ""
    gradcam: bool = False
    """Whether each row has the overlay of its top label."""
    occlusion: bool = False
    """Whether that is by occlusion."""
    max_image_bytes: int
    max_image_pixels: int
    max_image_memory: int
    threads: int = 1
    """Photos that one worker process classifies at the same time."""
    billing_project: str = ""
    """Who pays for reading buckets whose requesters pay."""

    @property
    def pointer(self) -> Pointer:
        """The version with what its manifest was."""
        return Pointer(self.version, self.manifest_sha256)

    @property
    def query(self) -> Query:
        """What is asked of each photo, as a caller of the function would."""
        return Query(
            top_k=self.top_k, tta=self.tta, gradcam=TOP_LABEL if self.gradcam else None, occlusion=self.occlusion
        )

    @property
    def settings(self) -> Settings:
        """The function's settings as far as a worker has them."""
        return Settings(
            model_store=self.store,
            model_name=self.model,
            interpreters=self.threads,
            threads=1,
            wait=FOREVER,
            max_waiting=1 << 20,
            max_image_bytes=self.max_image_bytes,
            max_image_pixels=self.max_image_pixels,
            max_image_memory=self.max_image_memory,
        )

    def decides(self) -> dict[str, Any]:
        """Return what decides what a row says: rows of one folder agree in all of it."""
        explanation = (OCCLUSION if self.occlusion else "gradcam") if self.gradcam else ""
        return {
            "model": self.model,
            "version": self.version,
            "manifest_sha256": self.manifest_sha256,
            "top_k": self.top_k,
            "tta": self.tta,
            "overlay": explanation,
            "max_image_bytes": self.max_image_bytes,
            "max_image_pixels": self.max_image_pixels,
            "max_image_memory": self.max_image_memory,
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Job:
        """Read a job. Raises `InvalidSetting`: its model has no name that a model can have."""
        job = cls(**values)
        check_model_name(job.model)
        return job

    def to_dict(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return asdict(self)
