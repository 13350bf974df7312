"""Everything that needs no torch: configuration, registry, artifacts, records, prompts, execution, statistics."""

DEFAULT_MODEL_NAME = "google/gemma-2-2b"
MAX_NEW_TOKENS = 2000
