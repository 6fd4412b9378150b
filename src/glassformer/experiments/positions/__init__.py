"""Position schemes on texts longer than those of training."""
