"""The bundled tiny model with known ground truth: its problems, its training, its measurement."""
