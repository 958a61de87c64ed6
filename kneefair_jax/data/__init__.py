"""Where cases come from, and how they reach a device."""
