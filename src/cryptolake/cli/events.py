"""Events of this process, logged to standard error: for people on a terminal, as JSON lines elsewhere."""

from __future__ import annotations

import logging
import sys
import warnings

import structlog
from structlog.typing import Processor


class _StandardError:
    """Whatever is standard error at the moment: a live view takes its place while it is shown."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def log_events(level: str) -> None:
    """Log events of *level* and above (`info`, `warning`, `error`) with their fields."""
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.CRITICAL)  # libraries say in exceptions what we have to know
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=True)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=_StandardError()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
