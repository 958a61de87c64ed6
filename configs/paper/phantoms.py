r"""The published study's recipe on phantoms in the OAI's proportions, by sex, race or age: see configs/paper/recipe.py.

    python launch.py --mode=study --config=configs/paper/phantoms.py:race --workdir=runs/paper_phantoms_race

79 % are White, 18 % Black; 58 % are women (the shares of ages are this project's). No difference is planted: a gap
comes from the sizes of the groups and from the recipe. Run it on a GPU.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import default
from kneefair_jax.configs.paper import recipe

SHARES = {
    "sex": {"female": 0.58, "male": 0.42},
    "race": {"White": 0.79, "Black": 0.18, "other": 0.03},
    "age": {"45-50": 0.17, "51-64": 0.46, "65-79": 0.37},
}


def get_config(attribute: str = "race") -> ConfigDict:
    """Return the recipe for one of the study's three attributes."""
    config = default.get_config()
    data = config.data
    data.update(default.phantom())
    data.attributes = tuple(SHARES)
    phantom = data.phantom
    phantom.patients = 1600
    phantom.knees_per_patient = 2
    phantom.bilateral = True
    phantom.attributes = ConfigDict({name: ConfigDict(shares) for name, shares in SHARES.items()})
    phantom.fov_mm = (180.0, 180.0)
    config = recipe.apply(config, attribute)
    config.train.steps = recipe.epochs(1120)
    config.train.eval_every = config.train.steps // 50
    return config
