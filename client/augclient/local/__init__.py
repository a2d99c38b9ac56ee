"""Batches in memory that a server on the same host shares: nothing is copied between its kernel and the trainer's arrays."""

from augclient.local.link import RingLink, open_link

__all__ = ["RingLink", "open_link"]
