"""Phase 0.1: problem splitting."""
