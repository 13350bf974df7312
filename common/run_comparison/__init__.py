"""Two runs side by side: what differs between them, and by how much each figure that both have does."""
