from .predictor import Prediction, Predictor, load

__all__ = ["Prediction", "Predictor", "load"]
