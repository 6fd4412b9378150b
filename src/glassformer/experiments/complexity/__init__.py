"""What attention costs as texts and models grow."""
