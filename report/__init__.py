"""The report: one self-contained HTML file from whatever phases are complete. Reads artifacts only; no torch."""
