"""Eight virtual CPU devices for every test, so that whatever runs on a mesh is tested on a mesh."""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = "cpu"
