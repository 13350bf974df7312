"""Phase 2.10: t-statistic features."""
