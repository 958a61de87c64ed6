from .artifacts import FORMATS
from .artifacts import export as export_artifacts
from .model_card import model_card_text
from .network_files import FOLDER, NAME, export

__all__ = ["FOLDER", "FORMATS", "NAME", "export", "export_artifacts", "model_card_text"]
