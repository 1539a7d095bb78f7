"""A training's curves and pictures for TensorBoard, by TensorFlow's own writer; on any backend of Keras.

tf.summary.scalar and its like are code of TensorBoard and need its package; tf.summary.write is TensorFlow's own.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.tracking.tracker import numbers_of


class TensorBoard:
    """Writes event files, anew each time: a training that is resumed writes its former epochs again first.

    So every epoch is there once, also where a crash came between an event and the run's state.

    Args:
        folder: where to; what is in it is removed.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None
        self._steps = 0

    def begin(self, options: Mapping[str, str], history: Sequence[Mapping[str, Any]]) -> None:
        """Write the options as text and the former epochs."""
        import tensorflow as tf

        shutil.rmtree(self.folder, ignore_errors=True)
        self._writer = tf.summary.create_file_writer(str(self.folder))
        lines = ["option | value", "--- | ---", *(f"{name} | {value}" for name, value in options.items())]
        with self._writer.as_default(step=0):
            _write("options", "text", tf.constant(["\n".join(lines)]))
        for step, entry in enumerate(history, start=1):
            self.epoch(step, numbers_of(entry))

    def epoch(self, step: int, figures: Mapping[str, float]) -> None:
        """Write scalars."""
        import tensorflow as tf

        self._steps = step
        with self._writer.as_default(step=step):
            for name, value in figures.items():
                _write(name, "scalars", tf.constant(value, tf.float32))
        self._writer.flush()

    def result(self, figures: Mapping[str, float], pictures: Sequence[Path]) -> None:
        """Write scalars under ``served`` and the pictures, at the last epoch."""
        import tensorflow as tf

        with self._writer.as_default(step=self._steps):
            for name, value in figures.items():
                _write(f"served/{name}", "scalars", tf.constant(value, tf.float32))
            for path in pictures:
                with Image.open(path) as picture:
                    size = [str(side).encode() for side in picture.size]
                _write(path.stem, "images", tf.constant([*size, path.read_bytes()]))

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _write(tag: str, plugin: str, value: Any) -> None:
    """Write a value for one of TensorBoard's plugins: a scalar; texts; or width, height and an encoded picture."""
    import tensorflow as tf
    from tensorflow.core.framework.summary_pb2 import (
        DATA_CLASS_BLOB_SEQUENCE,
        DATA_CLASS_SCALAR,
        DATA_CLASS_TENSOR,
        SummaryMetadata,
    )

    kinds = {"scalars": DATA_CLASS_SCALAR, "images": DATA_CLASS_BLOB_SEQUENCE, "text": DATA_CLASS_TENSOR}
    metadata = SummaryMetadata(data_class=kinds[plugin])
    metadata.plugin_data.plugin_name = plugin
    tf.summary.write(tag, value, metadata=metadata)
