"""The composition root: puts each process together from the settings."""
