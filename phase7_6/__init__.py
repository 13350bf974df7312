"""Phase 7.6: steering the instruction-tuned model along the base model's directions."""
