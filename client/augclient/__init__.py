"""Client of augserver: batches of augmented 3-D volumes, addressed by number.

    import augclient

    recipe = augclient.Recipe.load("recipe.toml")
    with augclient.connect("127.0.0.1:50051") as server:
        for batch in server.stream(recipe, patch=(160, 120, 120), batch_size=4):
            batch.image, batch.label, batch.samples

augclient.tensorflow and augclient.torch adapt a stream to those frameworks; importing augclient imports neither.
"""

from augclient import errors
from augclient.client import Patch, Server, connect
from augclient.dataset import Dataset, Volume, VolumeInfo
from augclient.recipe import Recipe
from augclient.stream import Batch, Sample, Stream
from augclient.tls_files import TlsConfig
from augclient.warp import Transform, WarpStream

__all__ = [
    "Batch",
    "Dataset",
    "Patch",
    "Recipe",
    "Sample",
    "Server",
    "Stream",
    "TlsConfig",
    "Transform",
    "Volume",
    "VolumeInfo",
    "WarpStream",
    "connect",
    "errors",
]
