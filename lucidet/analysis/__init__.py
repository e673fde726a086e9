"""What a detector does wrong: errors by kind, confusions, thresholds, and two runs compared."""
