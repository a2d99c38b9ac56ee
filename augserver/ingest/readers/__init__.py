"""One file a format: what its bytes say, on the grid that its standard says, or a VolumeError that says why not."""
