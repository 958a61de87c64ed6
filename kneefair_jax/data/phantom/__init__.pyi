from .case import NO_BIAS, SWITCHES, Bias, Phantom, draw_case, draw_film
from .cohort import source

__all__ = ["NO_BIAS", "SWITCHES", "Bias", "Phantom", "draw_case", "draw_film", "source"]
