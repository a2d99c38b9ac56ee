"""Several servers behind one stream: where they are (seeds, roster), which sends what (lanes), whole batches again (merge, receiver)."""

from augclient.fleet.fleet import Fleet

__all__ = ["Fleet"]
