"""Phase 2.2: general-text feature frequencies."""
