"""From a config and prepared cases to checkpoints."""
