"""Who may call: verifies Firebase ID tokens and App Check tokens, and counts what each caller asks for."""

from __future__ import annotations

from flask import Request, g, request

from classifier.access.caller import Caller, client_address
from classifier.access.limits import RateLimits
from classifier.access.tokens import Tokens
from classifier.errors import Forbidden, RateLimited, TooLarge, Unauthenticated
from classifier.settings import Settings

OPEN = frozenset({"healthz", "litert", "openapi", "page"})
"""The endpoints that anybody may call; whatever else is added is protected."""
FAILED_ATTEMPTS = "30/minute"
"""How often an address may fail to say who it is before it is told to wait. A good token is let through even then."""


class Admission:
    """Lets requests in, before their bodies are read."""

    def __init__(self, settings: Settings) -> None:
        self._default = settings
        self._of = {name: settings.of_model(name) for name in settings.models}
        self._tokens = {name: Tokens(each) for name, each in self._of.items() if each.access != "public"}
        self._limits = RateLimits(settings.rate_limit_store)

    def admit(self, model: str = "") -> None:
        """Set ``g.caller``, ``g.model`` and ``g.quotas`` for a request, unless what it asks for is open to all.

        Args:
            model: whose rules hold; one that may not be asked for is admitted by the default's, and refused later.

        Raises:
            Unauthenticated: a token is missing or bad.
            Forbidden: the user lacks the claim.
            RateLimited: too many requests of this caller, or too many failures of this address.
            AccessUnavailable: tokens cannot be checked.
        """
        g.model = model if model in self._of else self._default.model_name
        if is_open(request):
            return
        address = client_address(request, self._default.trusted_proxies)
        tokens = self._tokens.get(g.model)
        try:
            g.caller = tokens.caller(request.headers, address) if tokens else Caller(address)
        except (Unauthenticated, Forbidden) as error:
            self._count(FAILED_ATTEMPTS, f"failed/{address}", name="failed-attempts")
            g.refusal = error.reason if isinstance(error, Unauthenticated) else "claim"  # for the request's log line
            raise
        if self._settings.rate_limit:
            self._count(self._settings.rate_limit, self._key())

    def admit_photos(self, count: int) -> None:
        """Count a request that has been admitted as often as it has photos: once for each.

        Raises:
            TooLarge: more photos than a limit ever allows.
            RateLimited: more photos than are left to the caller; those of this request are not counted, it is, once.
        """
        if not self._settings.rate_limit or count <= 1:
            return
        most = min(quota.limit for quota in g.quotas)
        if count > most:
            raise TooLarge(
                f"Expected at most {most} photos in a request, because that is how many are allowed in a while; "
                f"received {count}. Send the others in further requests."
            )
        g.quotas = self._limits.hit(self._settings.rate_limit, self._key(), cost=count - 1, again=count)
        for quota in g.quotas:
            if not quota.allowed:
                raise RateLimited(
                    f"Expected at most {quota.limit} photos in {quota.window} seconds; received {count}, with "
                    f"{quota.remaining + 1} left. Send fewer, or try again in {quota.reset} seconds.",
                    retry_after=quota.reset,
                )

    def admit_feedback(self) -> None:
        """Count a correction.

        Raises:
            RateLimited: the caller has sent as many as are taken of it in a while.
        """
        quotas = self._limits.hit(self._settings.feedback_limit, f"feedback/{self._key()}")
        for quota in quotas:
            if not quota.allowed:
                g.quotas = quotas
                raise RateLimited(
                    f"Expected at most {quota.limit} corrections in {quota.window} seconds; received more. "
                    f"Try again in {quota.reset} seconds.",
                    retry_after=quota.reset,
                )

    @property
    def _settings(self) -> Settings:
        """The rules of the model that the request at hand is about."""
        return self._of[g.model]

    def _key(self) -> str:
        """Return under which a caller's requests to a model are counted: each model's by themselves."""
        key: str = g.caller.key
        return key if g.model == self._default.model_name else f"model/{g.model}/{key}"

    def _count(self, policy: str, key: str, *, name: str = "") -> None:
        g.quotas = self._limits.hit(policy, key, name=name)
        for quota in g.quotas:
            if not quota.allowed:
                raise RateLimited(
                    f"Expected at most {quota.limit} requests in {quota.window} seconds; received more. "
                    f"Try again in {quota.reset} seconds.",
                    retry_after=quota.reset,
                )


def is_open(request: Request) -> bool:
    """Say whether anybody may ask what a request asks for."""
    rule = request.url_rule
    if rule is None:  # it will be answered with 404 or 405
        return True
    if request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
        return True  # a browser's preflight has no tokens
    return rule.endpoint.rpartition(".")[2] in OPEN
