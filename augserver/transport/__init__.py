"""Batches to clients on the same host: a Unix socket that hands over memory and takes leases back. The server's end of augclient.local."""

from augserver.transport.listener import LocalListener, LocalStatistics
from augserver.transport.peer import LocalPeer
from augserver.transport.runtime_folder import default_folder

__all__ = ["LocalListener", "LocalPeer", "LocalStatistics", "default_folder"]
