"""The trace that a program is in, for the server to go on with. Only where the program itself uses OpenTelemetry."""

from __future__ import annotations

import sys


def trace_context() -> tuple[tuple[str, str], ...]:
    """Metadata of the current span of this thread ("traceparent" and the like); empty where there is none."""
    if "opentelemetry.trace" not in sys.modules:  # nobody could have made a span
        return ()
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple((key.lower(), value) for key, value in carrier.items())
