"""Clusters of heads with similar attention, tested against null models without clusters."""
