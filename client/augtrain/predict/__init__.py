"""Segment scans with a trained network and write the result on each scan's own grid."""

from augtrain.predict.predict_config import PredictConfig
from augtrain.predict.prediction import Prediction, predict, predict_volumes
from augtrain.predict.scan_server import Refusal
from augtrain.predict.segmenter import NetworkSegmenter, Segmenter

__all__ = ["NetworkSegmenter", "PredictConfig", "Prediction", "Refusal", "Segmenter", "predict", "predict_volumes"]
