"""Streams of batches: what is asked for (spec), receiving (receiver), putting together (assembly), memory (buffers), Stream."""

from augclient.stream.batch import Batch, Sample
from augclient.stream.spec import StreamSpec
from augclient.stream.stream import Stream

__all__ = ["Batch", "Sample", "Stream", "StreamSpec"]
