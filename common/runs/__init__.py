"""Runs on disk: files written whole, durable records, discovery of inputs, provenance and status."""
