"""A stream as a torch IterableDataset; see BatchDataset."""

from augclient.torch.batch_dataset import BatchDataset

__all__ = ["BatchDataset"]
