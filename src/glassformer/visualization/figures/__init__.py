"""Figures of attention, attributions, predictions, head labels, ablations and training runs."""
