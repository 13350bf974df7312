"""Phase 7.3: the instruction-tuned sibling on the validation split."""
