r"""The published study's recipe on the Osteoarthritis Initiative, by sex, race or age: see configs/paper/recipe.py.

    python launch.py --mode=study --config=configs/paper/oai.py:race --workdir=runs/paper_race \
        --config.data.root=OAI --config.data.masks=MASKS

With ImageNet's weights: --config.model.weights=resnet18.safetensors, a local file. The number of steps is that of 50
epochs of 2,800 training films; for another number n, --config.train.steps is 50 n / 16.
"""

from ml_collections import ConfigDict

from kneefair_jax.configs import oai
from kneefair_jax.configs.paper import recipe


def get_config(attribute: str = "race") -> ConfigDict:
    """Return the recipe for one of the study's three attributes."""
    config = recipe.apply(oai.get_config(), attribute)
    config.train.steps = recipe.epochs(2800)
    config.train.eval_every = config.train.steps // 50
    return config
