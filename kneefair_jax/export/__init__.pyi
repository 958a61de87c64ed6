from .model_card import model_card_text
from .network_files import FOLDER, NAME, export

__all__ = ["FOLDER", "NAME", "export", "model_card_text"]
