"""Train segmentation networks on batches from an augserver, and judge what they learnt.

Losses, networks and scores are Keras 3 and run on TensorFlow, JAX and PyTorch. Nothing here reads a dataset: volumes and batches come
from a server, through augclient.
"""
