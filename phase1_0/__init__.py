"""Phase 1.0: dataset building."""
