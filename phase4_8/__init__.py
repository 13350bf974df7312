"""Phase 4.8: steering effects."""
