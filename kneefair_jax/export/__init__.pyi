from .model_card import card
from .network_files import FOLDER, NAME, export

__all__ = ["FOLDER", "NAME", "card", "export"]
