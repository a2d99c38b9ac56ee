"""Numbers of the public contract that the server, the client and the commands share."""

from __future__ import annotations

EXIT_NOTHING_USABLE = 2
"""A command that reports on many scans took none of them."""

EXIT_SOME_REFUSED = 3
"""A command that reports on many scans took some of them, and says why it refused the others."""
