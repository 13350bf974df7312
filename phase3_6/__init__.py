"""Phase 3.6: the hyperparameter split."""
