"""Pathway and token analysis: which earlier features drive a causal feature, and which tokens it puts out."""
