from .prediction import Prediction
from .predictor import Predictor, load

__all__ = ["Prediction", "Predictor", "load"]
