"""Phase 2.5: separation-score features."""
