"""Everything that touches the model: loading, hooks, generation, SAEs, and the runners that phases share."""
