"""Phase 3.8: how well the predictor features detect correct and incorrect code on held-out problems."""
