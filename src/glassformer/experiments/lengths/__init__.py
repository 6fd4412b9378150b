"""Position schemes on sequences longer than those of training: copying, reversing and adding."""
