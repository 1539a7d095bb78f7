"""A Cloud Storage emulator that honours generation preconditions: gcp-storage-emulator, guarded.

    python tests/support/gcs_emulator.py BUCKET...

prints its port, then serves the buckets from memory until it is terminated. The package ignores preconditions
and keeps the generation of a download to itself; the guard around its handlers adds both. The server has one
thread, so that a check and the write after it cannot be separated.

A bucket whose name ends with -pays refuses who names no project that pays. One that is called generated-100000 has so
many objects, which are made as they are listed, a page at a time; there is nothing to read in it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import HTTPServer
from typing import Any
from urllib.parse import unquote_plus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.storage import Storage

Handler = Callable[[Any, Any, Any], None]
Conditions = dict[str, int]

REQUESTER_PAYS = "Bucket is a requester pays bucket but no user project provided."
PAGE = 1000
CONDITIONS = ("ifGenerationMatch", "ifGenerationNotMatch")


class Server(HTTPServer):
    request_queue_size = 64


def main() -> None:
    storage = Storage(use_memory_fs=True)
    for name in sys.argv[1:]:
        buckets.create_bucket(name, storage)
    server.HANDLERS = guard_all(server.HANDLERS)
    http = Server(("127.0.0.1", 0), partial(server.RequestHandler, storage))
    print(http.server_address[1], flush=True)  # noqa: T201
    http.serve_forever()


def guard_all(routes: Any) -> Any:
    """Guard every handler; resumable uploads carry their conditions from the first request to the last."""
    uploads: dict[str, tuple[Conditions, tuple[str, str]]] = {}
    return tuple(
        (pattern, {method: guard(handler, method, uploads) for method, handler in handlers.items()})
        for pattern, handlers in routes
    )


def guard(handler: Handler, method: str, uploads: dict[str, tuple[Conditions, tuple[str, str]]]) -> Handler:
    def guarded(request: Any, response: Any, storage: Any) -> None:
        bucket = str((request.params or {}).get("bucket_name", ""))
        if bucket.endswith("-pays") and method == "GET" and "userProject" not in request.query:
            response.status = HTTPStatus.BAD_REQUEST
            response.json({"error": {"code": 400, "message": REQUESTER_PAYS}})
            return
        generated = re.fullmatch(r"generated-(\d+)", bucket)
        if generated and request.path.endswith("/o"):
            response.json(page_of(int(generated[1]), int(request.query.get("pageToken", ["0"])[0])))
            return
        upload = request.query.get("upload_id", [""])[0]
        if upload in uploads:
            conditions, target = uploads[upload]
        else:
            conditions, target = conditions_of(request), target_of(request)
        generation = generation_of(storage, target)
        refusal = check(conditions, generation, reading=method == "GET")
        if refusal is not None:
            request.data  # noqa: B018  # an answer before the body is read would reset the connection
            response.status = refusal
            return
        if method == "GET" and generation:
            response["X-Goog-Generation"] = str(generation)
        handler(request, response, storage)
        started = re.search(r"upload_id=([^&]+)", response._headers.get("Location", ""))
        if started:
            uploads[unquote_plus(started[1])] = (conditions, target)

    return guarded


def page_of(count: int, start: int) -> dict[str, Any]:
    """A page of the listing of a bucket with so many objects."""
    end = min(start + PAGE, count)
    items = [
        {
            "name": f"a/folder/of/{number // PAGE:06}/{number:09}.jpg",
            "size": "100000",
            "generation": str(10**15 + number),
        }
        for number in range(start, end)
    ]
    return {"items": items} | ({"nextPageToken": str(end)} if end < count else {})


def check(conditions: Conditions, generation: int, *, reading: bool) -> HTTPStatus | None:
    """Return the status that refuses a request on an object of this generation (0: there is none), or None."""
    wanted, unwanted = (conditions.get(name) for name in CONDITIONS)
    if reading and not generation:
        return None
    if wanted is not None and wanted != generation:
        return HTTPStatus.PRECONDITION_FAILED
    if unwanted is not None and unwanted == generation:
        return HTTPStatus.NOT_MODIFIED if reading else HTTPStatus.PRECONDITION_FAILED
    return None


def conditions_of(request: Any) -> Conditions:
    return {name: int(request.query[name][0]) for name in CONDITIONS if name in request.query}


def target_of(request: Any) -> tuple[str, str]:
    """The bucket and object of a request; an upload names its object in the query or in the body."""
    params = request.params or {}
    name = params.get("object_id") or request.query.get("name", [""])[0]
    if not name and "uploadType" in request.query and isinstance(request.data, dict):
        name = request.data.get("meta", request.data).get("name", "")
    return params.get("bucket_name", ""), name


def generation_of(storage: Any, target: tuple[str, str]) -> int:
    try:
        return int(storage.get_file_obj(*target)["generation"])
    except NotFound:
        return 0


if __name__ == "__main__":
    main()
