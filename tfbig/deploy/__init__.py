"""How a trained model leaves: exported, verified, described, served."""
