"""Costs of attention as texts and models grow."""
