"""Where the log goes and what a line looks like: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import datetime
import json
import logging

NOTICES = "augserver.notices"  # lines for the operator, which in text have no time and no name


def set_up_logs(log_format: str) -> None:
    """Send the log to stderr, from INFO on for our own packages, from WARNING on for others.

    Args:
        log_format: "text" or "json".
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("augserver").setLevel(logging.INFO)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == NOTICES else super().format(record)


class _JsonFormatter(logging.Formatter):
    """{"time": "2026-11-21T03:04:05.678Z", "level": "info", "logger": "augserver.service", "message": "...", "exception": "..."}"""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
