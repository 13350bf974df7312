"""Phase 0: difficulty analysis."""
