"""Demonstrations of the parts of a transformer, with predictions made beforehand."""
