"""How a field measures, where that takes more than sums: one file for each measure."""
