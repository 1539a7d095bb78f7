"""Which trace a request belongs to, in the fields by which Cloud Logging shows its log lines together."""

from __future__ import annotations

import re

# Versions after 00 may append fields; ff is forbidden. https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
# TRACE_ID/SPAN_ID;o=OPTIONS, with a decimal span. https://cloud.google.com/trace/docs/trace-context#legacy-http-header
_CLOUD = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]{1,3}))?", re.ASCII)
_SPANS = 2**64


def trace_fields(traceparent: str, cloud_trace_context: str, *, project: str) -> dict[str, object]:
    """Return a request's trace, span and whether it is sampled; nothing where no header can be believed.

    Args:
        traceparent: the header of that name, which counts first.
        cloud_trace_context: the header X-Cloud-Trace-Context.
        project: in which Cloud Trace has it; where none is known, the trace is its bare number.
    """
    found = _w3c(traceparent) or _google(cloud_trace_context)
    if found is None:
        return {}
    trace, span, sampled = found
    fields: dict[str, object] = {
        "logging.googleapis.com/trace": f"projects/{project}/traces/{trace}" if project else trace
    }
    if span:
        fields["logging.googleapis.com/spanId"] = f"{span:016x}"
    fields["logging.googleapis.com/trace_sampled"] = sampled
    return fields


def _w3c(header: str) -> tuple[str, int, bool] | None:
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    return trace, int(span, 16), bool(int(flags, 16) & 1)


def _google(header: str) -> tuple[str, int, bool] | None:
    match = _CLOUD.fullmatch(header)
    if match is None:
        return None
    trace, span, options = match.groups()
    if not int(trace, 16) or int(span or 0) >= _SPANS:
        return None
    return trace.lower(), int(span or 0), bool(int(options or 0) & 1)
