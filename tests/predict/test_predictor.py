import numpy as np
import pytest
from PIL import Image
from predict_networks import write

from kneefair_jax import predict
from kneefair_jax.errors import InputError
from kneefair_jax.predict import bilateral, resample
from kneefair_jax.predict.predictor import Prediction
