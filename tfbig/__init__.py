"""tfbig: big models from raw data to a served, verified artefact, on TensorFlow and Keras 3."""

__version__ = "0.1.0"
