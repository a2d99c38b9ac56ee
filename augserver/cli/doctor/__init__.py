"""`augserver doctor`: what works here, and what would mend what does not."""

from augserver.cli.doctor.command import doctor

__all__ = ["doctor"]
