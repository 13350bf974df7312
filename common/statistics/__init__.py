"""Statistics of detection and steering, on plain arrays: no files, no model."""
