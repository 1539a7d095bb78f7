"""The HTTP contract as a Flask app: parse the request, ask the instance, shape the reply."""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Callable

from flask import Blueprint, Flask, Response, g, jsonify, request
from werkzeug.exceptions import (
    ClientDisconnected,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from classifier import errors
from classifier.access.admission import Admission, is_open
from classifier.access.limits import headers as rate_limit_headers
from classifier.endpoints import counting, on_device, request_log
from classifier.endpoints.downloads import Downloads
from classifier.endpoints.feedback import FeedbackDesk
from classifier.endpoints.files import CONTENT_SECURITY_POLICY, PAGE, ROOT, make_conditional, send_static
from classifier.endpoints.model import model_body, models_body, send_file
from classifier.endpoints.problems import kind_of, problem
from classifier.endpoints.public_files import send_card, send_sample
from classifier.endpoints.query_string import MODEL, options_in_address, query_for_several, read_query
from classifier.endpoints.replies import admit_model, caller_key, reply_to_one, reply_to_several, tell_fallback
from classifier.endpoints.request_photos import body_limit, body_too_large, read_photos
from classifier.endpoints.unread import KEPT
from classifier.serving.instance import Instance
from classifier.serving.models import Models, server_threads
from classifier.settings import Settings
from classifier.storage.opening import open_store
from classifier.storage.protocol import ObjectStore
from classifier.variables import MIB

EXPOSED = (
    "Accept-Ranges, Cache-Status, Content-Disposition, Content-Range, ETag, RateLimit, RateLimit-Policy, Repr-Digest, "
    "Retry-After, Server-Timing, WWW-Authenticate, "
    "X-Pointer-Confidence, X-Pointer-Fallback, X-Pointer-Label, X-Pointer-Version, X-Request-Id"
)


def create_app(
    settings: Settings,
    instance: Instance | None = None,
    *,
    routes: Callable[[Models, Admission], Blueprint] | None = None,
    shape: Callable[[Exception, str], Response] = problem,
) -> Flask:
    """Make the app. Nothing is read from any store until a request needs it.

    Args:
        settings: see `Settings`.
        instance: what decides what serves of the default model; by default a new one.
        routes: makes what is served; by default that of openapi.yaml.
        shape: how an error, with the request's id, is told.
    """
    app = Flask("pointer", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = body_limit(settings)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = app.url_map.merge_slashes = False
    admission = Admission(settings)
    models = Models(settings, instance)
    writers = counting.Writers(models, lambda: open_store(settings.model_store))
    blueprint = (routes or _routes)(models, admission)
    app.register_blueprint(blueprint)
    if routes is None:  # Firebase Hosting's rewrite passes its whole path on.
        app.register_blueprint(blueprint, name="hosting", url_prefix="/api")

    @app.before_request
    def begin() -> None:
        request_log.begin(settings.project)
        g.model = models.default

    @app.before_request
    def admit() -> None:
        # Once, though the request may begin again when its body is here: it counts once for its caller.
        kept = request.environ.get(KEPT, {})
        if not is_open(request) and (named := len(request.args.getlist(MODEL))) > 1:
            raise errors.InvalidRequest(f"Expected {MODEL} once; received it {named} times.")
        if "admitted" in kept:
            g.model, g.caller, g.quotas = kept["admitted"]
        else:
            admission.admit(request.args.get(MODEL, ""))
            kept["admitted"] = g.model, g.get("caller"), g.get("quotas", ())
        if MODEL in request.args and not is_open(request):
            models.expect(request.args[MODEL])

    @app.after_request
    def add_headers(reply: Response) -> Response:
        reply.headers["X-Request-Id"] = g.request_id
        reply.headers.update(rate_limit_headers(g.get("quotas", ())))
        reply.headers["X-Content-Type-Options"] = "nosniff"
        reply.headers.setdefault("Cache-Control", "no-store")
        if "Origin" in request.headers:
            reply.headers["Access-Control-Expose-Headers"] = EXPOSED
        request_log.write(reply)
        counting.count(reply, writers, models)
        return reply

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        request_log.end()

    @app.errorhandler(Exception)
    def tell(error: Exception) -> Response:
        return _tell(error, settings, shape)

    return app


def _routes(models: Models, admission: Admission) -> Blueprint:
    settings = models.settings
    routes = Blueprint("pointer", __name__)
    photo_store = Lazy(settings.photo_store)
    desk = FeedbackDesk(models, admission, Lazy(settings.model_store))
    # A third of the threads is never held by those who read slowly.
    downloads = Downloads(settings.function_memory * MIB, max(1, server_threads() * 2 // 3))
    policies = {on_device.WORKER: on_device.WORKER_POLICY} if settings.on_device else {}

    @routes.post("/")
    def classify() -> Response:
        counting.begin()
        in_address = options_in_address(request)
        photos, in_body = read_photos(request, settings, photo_store)
        query = read_query(request, in_address, in_body)
        admit_model(in_body.get(MODEL), models, admission)
        predictor = models[g.model]
        if len(photos) == 1:
            reply = reply_to_one(predictor, photos[0], query)
        else:
            query = query_for_several(request, query)
            admission.admit_photos(len(photos))
            reply = reply_to_several(predictor, photos, query)
        reply.vary.add("Accept")
        return reply

    @routes.post("/feedback")
    def feedback() -> tuple[Response, int]:
        body, status = desk.take(request)
        return jsonify(body), status

    @routes.get("/models")
    def all_models() -> Response:
        litert = {"litert_js": on_device.link()} if settings.on_device else {}
        return jsonify({**models_body(models, g.model, caller_key()), **litert})

    @routes.get("/model")
    def model() -> Response:
        instance, default = models[g.model].instance, g.model == models.default
        chosen = instance.chosen(caller_key())
        since = instance.since(chosen)
        reply = jsonify(model_body(chosen, models.settings_of(g.model), default=default, since=since))
        make_conditional(reply)
        tell_fallback(reply, chosen)
        return _to_be_asked_again(reply)

    @routes.get("/model/file")
    def model_file() -> Response:
        reply, chosen = send_file(request, models[g.model].instance, downloads, caller_key())
        tell_fallback(reply, chosen)
        return _to_be_asked_again(reply)

    @routes.get("/model/samples/<sha256>")
    def model_sample(sha256: str) -> Response:
        return send_sample(request, models[g.model].instance, sha256, public=_is_public(), caller=caller_key())

    @routes.get("/model/card")
    def model_card() -> Response:
        return _to_be_asked_again(send_card(request, models[g.model].instance, caller_key()))

    def _to_be_asked_again(reply: Response) -> Response:
        reply.headers["Cache-Control"] = "no-cache" if _is_public() else "private, no-cache"
        return reply

    def _is_public() -> bool:
        return models.settings_of(g.model).access == "public"

    @routes.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @routes.get("/openapi.yaml")
    def openapi() -> Response:
        return send_static(ROOT / "openapi.yaml", "application/yaml", max_age=300)

    @routes.get("/", defaults={"name": PAGE})
    def page(name: str) -> Response:
        # Files are asked for again each time, and answered with 304: those of two releases never meet.
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        reply = send_static(ROOT / "web" / name, media_type, max_age=0)
        reply.headers["Content-Security-Policy"] = policies.get(name, CONTENT_SECURITY_POLICY)
        reply.headers["Referrer-Policy"] = "no-referrer"
        return reply

    for file in sorted((ROOT / "web").iterdir()):
        routes.add_url_rule(f"/{file.name}", view_func=page, defaults={"name": file.name}, methods=["GET"])
    if settings.on_device:
        on_device.add_files(routes)
    return routes


class Lazy:
    """Opens a store when it is first needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._store: ObjectStore | None = None

    def __call__(self) -> ObjectStore:
        """Return the store."""
        with self._lock:
            if self._store is None:
                self._store = open_store(self._url)
            return self._store


def _tell(error: Exception, settings: Settings, shape: Callable[[Exception, str], Response]) -> Response:
    """Turn whatever was raised into its problem, in plainer words where Flask raised it."""
    if isinstance(error, RequestEntityTooLarge):
        error = body_too_large(request, settings)
    elif isinstance(error, ClientDisconnected):
        error.description = "Expected a whole body, in chunks where it is sent in chunks; received a broken one."
    elif isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        error.description = f"Expected one of {allowed} for {request.path}; received {request.method}."
    elif isinstance(error, NotFound):
        error.description = (
            "Expected POST /, POST /feedback, GET /model, GET /model/file, GET /model/samples/SHA256, GET /model/card, "
            f"GET /models, GET /healthz, GET /openapi.yaml or GET /; received {request.path}."
        )
    kind = kind_of(error)
    if kind.status == 500 or isinstance(error, errors.Corrupt | errors.Unavailable):
        # A reply never names the store: whoever sends photos need not know where the models lie.
        request_log.note("ERROR", kind.title, error=error, slug=kind.slug, store=settings.model_store)
    elif kind.status > 500:
        request_log.note("WARNING", str(error), slug=kind.slug)
    elif "refusal" in g:
        request_log.note("WARNING", "Refused a caller.", reason=g.refusal, slug=kind.slug)
    elif kind.status >= 400:
        # Its title, not its detail, which quotes what the caller sent.
        request_log.note("INFO", f"{kind.title}.", slug=kind.slug)
    return shape(error, g.request_id)
