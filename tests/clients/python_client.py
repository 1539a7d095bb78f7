"""Calls a server with the client that openapi-python-client made, and prints what it got: URL, photo in base64."""

from __future__ import annotations

import base64
import io
import json
import sys

from pointer_client import Client
from pointer_client.api.default import model, predict
from pointer_client.models import (
    Model,
    PhotoForm,
    PhotoInJson,
    PhotoProblem,
    PhotoResult,
    Prediction,
    Predictions,
    Problem,
)
from pointer_client.types import File

url, image = sys.argv[1:]


def file(content: bytes) -> File:
    return File(io.BytesIO(content), "photo.jpg", "image/jpeg")


photo = base64.b64decode(image)
with Client(base_url=url) as client:
    one = predict.sync(client=client, body=PhotoInJson(image, gradcam=True, top_k=2))
    assert isinstance(one, Prediction), one
    raw = predict.sync(client=client, body=file(photo), gradcam="red", top_k=2)
    assert isinstance(raw, Prediction) and raw.gradcam == one.gradcam, raw
    form = PhotoForm([file(photo), file(b"no photo")], tta="1")
    several = predict.sync(client=client, body=form, top_k=1)
    assert isinstance(several, Predictions), several
    first, second = several.results
    assert isinstance(first, PhotoResult) and isinstance(second, PhotoProblem), several
    refused = predict.sync_detailed(client=client, body=file(photo), top_k=0)
    assert isinstance(refused.parsed, Problem), refused
    serving = model.sync(client=client)
    assert isinstance(serving, Model), serving
got = {
    "one": [one.label, one.gradcam.media_type, len(one.predictions), one.model.version],
    "several": [first.label, second.problem.status],
    "refused": [refused.parsed.type_, refused.parsed.request_id == refused.headers["X-Request-Id"]],
    "model": [serving.version, serving.signature.inputs["image"].dtype],
}
sys.stdout.write(json.dumps(got))
