"""A phantom study in minutes."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Draws the cohort and plants the bias."""
    config = default.get_config()
    config.data.source = "phantom"
    config.data.phantom = phantom = ConfigDict()
    phantom.patients = 200
    phantom.knees_per_patient = 2
    phantom.attributes = ConfigDict(
        {"sex": ConfigDict({"female": 0.5, "male": 0.5}), "race": ConfigDict({"A": 0.85, "B": 0.15})}
    )
    phantom.bias = ConfigDict({"race=B": ConfigDict({"morphology": 0.6, "contrast": 0.6, "noise": 0.4})})
    phantom.fov_mm = 140.0
    config.mitigation.groups = ("race",)
    return config
