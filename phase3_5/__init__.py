"""Phase 3.5: temperature robustness."""
