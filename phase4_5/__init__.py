"""Phase 4.5: steering-coefficient selection."""
